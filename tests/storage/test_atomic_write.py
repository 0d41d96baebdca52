"""Files and folders that are replaced whole or not at all."""

import json

import pytest

from bertjax.errors import DiskError
from bertjax.storage.atomic_write import replaced_folder, write_json


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with replaced_folder(target) as scratch:
        (scratch / "old").write_text("1")
    with pytest.raises(RuntimeError), replaced_folder(target) as scratch:  # noqa: PT012 (the block is the subject)
        (scratch / "new").write_text("2")
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DiskError, match=r"file/model cannot be written: .*; free some space"),
        replaced_folder(tmp_path / "file" / "model"),
    ):
        pass


def test_a_file_that_is_replaced_leaves_no_scratch_file(tmp_path):
    for value in (1, 2):
        write_json(tmp_path / "metrics.json", {"value": value})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"value": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
