"""A file is decompressed by what it holds: its name may say less, more, or something else."""

import gzip
import io
import logging

import pandas as pd
import pytest

from tests.support.compressors import COMPRESSORS
from tests.support.tables import columns_of

COLUMNS = {"text": ["a", "b"], "label": ["x", "y"]}
CSV = pd.DataFrame(COLUMNS).to_csv(index=False).encode()


@pytest.mark.parametrize("named", COMPRESSORS)
@pytest.mark.parametrize("compression", COMPRESSORS)
def test_the_name_of_a_compression_may_be_wrong(save, caplog, named, compression):
    path = save(f"t.csv{named}", COMPRESSORS[compression](CSV))
    with caplog.at_level(logging.INFO):
        assert columns_of(path) == COLUMNS
    says = f"is compressed as {compression} files are" if compression else f"is not compressed as {named} files are"
    assert caplog.messages == ([] if named == compression else [f"{path}: {says}, whatever its name says"])


def written(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


FILES = {
    ".jsonl": b'{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n',
    ".json": pd.DataFrame(COLUMNS).to_json(orient="records").encode(),
    ".tsv": pd.DataFrame(COLUMNS).to_csv(index=False, sep="\t").encode(),
    ".parquet": written(pd.DataFrame(COLUMNS).to_parquet),
}


@pytest.mark.parametrize("kind", FILES)
def test_other_formats_under_a_wrong_name(save, kind):
    assert columns_of(save(f"t{kind}", gzip.compress(FILES[kind]))) == COLUMNS
    assert columns_of(save(f"t{kind}.gz", FILES[kind])) == COLUMNS


def test_a_sheet_is_a_zip_that_is_not_opened(save, caplog):
    content = written(lambda buffer: pd.DataFrame(COLUMNS).to_excel(buffer, index=False))
    assert columns_of(save("t.xlsx", content)) == COLUMNS
    assert columns_of(save("t.xlsx.gz", gzip.compress(content))) == COLUMNS
    assert not caplog.messages
    assert columns_of(save("t.xlsx.gz", content)) == COLUMNS


@pytest.mark.parametrize(("encoding", "said"), [("utf-16", "utf-16"), ("utf-32", "utf-32"), ("utf-8-sig", "")])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.csv.gz"])
def test_a_byte_order_mark_says_the_encoding(save, caplog, name, encoding, said):
    text = (
        'text,label\né,x\n"中, b",y\n'
        if "csv" in name
        else '{"text": "é", "label": "x"}\n{"text": "中, b", "label": "y"}'
    )
    content = text.encode(encoding)
    path = save(name, gzip.compress(content) if name.endswith(".gz") else content)
    with caplog.at_level(logging.INFO):
        assert columns_of(path) == {"text": ["é", "中, b"], "label": ["x", "y"]}
    assert caplog.messages == ([f"{path}: is read as {said}, as its byte order mark says"] if said else [])


@pytest.mark.parametrize("text", ["BZh, a column", "PK,zip", "PAR,1"])
def test_text_that_begins_as_a_compression_does_is_text(save, text):
    assert list(columns_of(save("t.csv", f"{text}\na,b\n"))) == text.split(",")
