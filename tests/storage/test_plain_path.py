"""Which paths libraries read as they are written, and the names that the others are given."""

import tempfile
from pathlib import Path

import pytest

from bertjax.storage.plain_path import at_home, is_plain, plain_path
from tests.support.paths import ODD_NAMES


@pytest.mark.parametrize("name", ["bert", "bert 2", "a.b-c_d", "-x", ".hidden", "käse", "日本", "n" * 255, "gs"])
def test_names_that_stay(tmp_path, name):
    assert is_plain(Path("/data/ann") / name / "checkpoints")
    with plain_path(tmp_path / name) as path:
        assert path == tmp_path / name


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_names_that_get_an_alias(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    with plain_path(folder) as path:
        assert is_plain(path)
        (path / "file").write_text("content")
        alias = path
    assert (folder / "file").read_text() == "content"
    assert not alias.parent.exists()


@pytest.mark.parametrize("folder", ["/gs/me", "/s3/me/run", "/az", "/hf/x"])
def test_folders_that_are_called_like_stores(folder):
    assert not is_plain(Path(folder))


def test_the_way_over_a_link_is_the_systems(tmp_path):
    """`link/../run` is beside the folder that the link leads to, and not beside the link."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    with plain_path(tmp_path / "link" / ".." / "run") as path:
        assert path == tmp_path / "a" / "run"


def test_an_odd_scratch_folder(tmp_path, monkeypatch):
    odd = tmp_path / "job [1]"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    with plain_path(odd) as path:
        assert is_plain(path)
        assert path.samefile(odd)


def test_the_home_of_nobody_is_a_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/data/ann")
    assert at_home("~/cache") == Path("/data/ann/cache")
    assert at_home("~nobody-has-this-name/x") == tmp_path / "~nobody-has-this-name" / "x"
