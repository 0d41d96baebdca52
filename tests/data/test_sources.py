"""Whatever a name leads to is found and opened; what is not there, or does not fit together, is told in one line."""

import bz2
import gzip
import http.server
import logging
import lzma
import threading
from pathlib import Path

import fsspec
import pytest

from bertjax.data.read.content import Reading
from bertjax.data.read.sources import read_table
from bertjax.errors import DataError
from tests.support.compressors import COMPRESSORS, zstd
from tests.support.paths import ODD_NAMES
from tests.support.tables import columns_of, zipped

HEADER = "text,label\n"


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_every_compression_gives_the_same_rows(save, compression):
    path = save(f"t.v2.CSV{compression.upper()}", COMPRESSORS[compression](b"text,label\na,x\nb,y\n"))
    assert columns_of(path) == {"text": ["a", "b"], "label": ["x", "y"]}


def test_a_pattern_reads_files_in_the_order_of_their_names(save, tmp_path):
    save("b.csv", "label,text\ny,2\n")
    save("c.csv.gz", gzip.compress(b"text,label\n3,z\n"))
    save("a.csv", "text,label\n1,x\n")
    save(".hidden.csv", "other\n1\n")
    save("empty-part.csv", HEADER)
    (tmp_path / "folder.csv").mkdir()
    found = read_table(f"{tmp_path}/*.csv*").frame
    assert found.to_dict("list") == {"text": ["1", "2", "3"], "label": ["x", "y", "z"]}
    assert found.index.tolist() == [0, 1, 2]
    assert columns_of(f"{tmp_path}/[ab].csv")["text"] == ["1", "2"]


def test_a_file_whose_name_looks_like_a_pattern(save):
    save("t1.csv", "text,label\nother,x\n")
    assert columns_of(save("t[1].csv", "text,label\nown,x\n"))["text"] == ["own"]


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_files_and_patterns_below_a_folder_of_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for folder, row in ((Path(name), "right"), (Path("bert f"), "wrong"), (Path("axb"), "wrong"), (Path("!"), "wrong")):
        folder.mkdir()
        for file in (f"{name}.csv", "2.csv"):
            (folder / file).write_text(f"{HEADER}{row},x\n")
    for source in (Path(name) / f"{name}.csv", tmp_path / name / f"{name}.csv", Path(name) / "2.csv"):
        assert columns_of(str(source))["text"] == ["right"]
    for pattern in (Path(name) / "*.csv", tmp_path / name / "*.csv", Path(name) / "[2].csv"):
        assert set(columns_of(str(pattern))["text"]) == {"right"}


def test_a_pattern_of_folders(tmp_path, save):
    for folder in ("a [1]/2025", "a [1]/2026", "a 1/2026"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "t.csv").write_text(f"{HEADER}{folder},x\n")
    assert columns_of(f"{tmp_path}/a [1]/*/t.csv")["text"] == ["a [1]/2025", "a [1]/2026"]
    assert columns_of(f"{tmp_path}/a [1]/**/t.csv")["text"] == ["a [1]/2025", "a [1]/2026"]
    assert columns_of(f"{tmp_path}/a*/2026/t.csv")["text"] == ["a 1/2026", "a [1]/2026"]


def test_stores_and_their_patterns():
    store = fsspec.filesystem("memory")
    store.pipe({"/tables/b.csv": b"text,label\n2,y\n", "/tables/a.csv.gz": gzip.compress(b"text,label\n1,x\n")})
    store.pipe("/tables/t[1].csv", b"text,label\n3,z\n")
    assert columns_of("memory://tables/b.csv")["text"] == ["2"]
    assert columns_of("memory://tables/?.csv*")["text"] == ["1", "2"]
    assert columns_of("memory://tables/t[1].csv")["text"] == ["3"]
    with pytest.raises(DataError, match=r"^no file matches memory://tables/\*\.tsv$"):
        read_table("memory://tables/*.tsv")
    with pytest.raises(DataError, match=r"^memory://tables/none.csv does not exist"):
        read_table("memory://tables/none.csv")
    store.pipe("/tables/c.csv", b"text,label\n3\n")
    with pytest.raises(DataError, match=r"^memory://(/)?tables/c.csv: line 2 has 1 field"):
        read_table("memory://tables/?.csv")


@pytest.mark.parametrize(("address", "package"), [("s3://b/t.csv", "s3fs"), ("gs://b/*.csv", "gcsfs")])
def test_a_store_whose_package_is_not_there(address, package):
    with pytest.raises(DataError, match=f"needs the package {package}, which is not installed: pip install {package}$"):
        read_table(address)


@pytest.fixture
def web():
    """A server on this machine that has one table, and one that ends too early."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = b"text,label\na,x\n"
            self.send_response(404 if "none" in self.path else 200)
            self.send_header("Content-Length", str(len(content) + 9 * ("cut" in self.path)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_reading_over_http(web, tmp_path):
    assert columns_of(f"{web}/t.csv?token=a.b#top") == {"text": ["a"], "label": ["x"]}
    with pytest.raises(DataError, match=r"/none.csv cannot be read: HTTP Error 404: Not Found$"):
        read_table(f"{web}/none.csv")
    with pytest.raises(DataError, match=r"/cut.csv cannot be read: IncompleteRead"):
        read_table(f"{web}/cut.csv")
    with pytest.raises(DataError, match=r"^http://127.0.0.1:1/t.csv cannot be read: Connection refused$"):
        read_table("http://127.0.0.1:1/t.csv")
    with pytest.raises(DataError, match=r"^foo://x/t.csv cannot be read: Protocol not known: foo$"):
        read_table("foo://x/t.csv")
    path = tmp_path / "a b.csv"
    path.write_text("text,label\na,x\n")
    assert columns_of(path.as_uri())["text"] == ["a"]


def test_the_second_file_of_a_pattern_is_named(save, tmp_path):
    save("a.csv", f"{HEADER}a,x\n")
    save("b.csv", f'{HEADER}\n"a\nb",x\na,b,c\n')
    with pytest.raises(DataError, match=r"/b.csv: line 5 has 3 fields"):
        read_table(f"{tmp_path}/*.csv")


def test_skipped_rows_are_logged_in_one_line(save, caplog, tmp_path):
    save("a.csv", f"{HEADER}a,x\nb\n")
    save("b.csv", f"{HEADER}c\nd\ne\nf,y\n")
    with caplog.at_level(logging.WARNING):
        read = read_table(f"{tmp_path}/*.csv", on_bad_row="skip")
    assert (read.frame["text"].tolist(), len(read.skipped)) == (["a", "f"], 4)
    (message,) = caplog.messages
    assert message == (
        f"{tmp_path}/*.csv: left out 4 broken rows ("
        f"{tmp_path}/a.csv: line 3 has 1 field, the header has 2; {tmp_path}/b.csv: line 2 has 1 field, the header has "
        f"2; {tmp_path}/b.csv: line 3 has 1 field, the header has 2; 1 more)"
    )


def test_a_file_without_one_good_row_has_no_columns_to_compare(save, tmp_path):
    save("a.jsonl", "[]\n")
    save("b.jsonl", '{"text": "b"}\n')
    assert columns_of(f"{tmp_path}/*.jsonl", "utf-8", "skip") == {"text": ["b"]}


def test_nothing_is_left_when_every_row_is_broken(save):
    for name, content in [("t.csv", f"{HEADER}a\n"), ("t.jsonl", "[]\n")]:
        with pytest.raises(DataError, match=r"has no rows but 1 broken row \(.*: line . "):
            read_table(save(name, content), on_bad_row="skip")


def test_files_with_other_columns(save, tmp_path):
    save("a.csv", "text,label,id\na,x,1\n")
    save("b.csv", "text,class\na,x\n")
    with pytest.raises(
        DataError, match=r"b.csv has other columns than .*a.csv: it lacks 'label', 'id' and adds 'class'$"
    ):
        read_table(f"{tmp_path}/*.csv")
    save("b.csv", "text,label,id,more\na,x,1,2\n")
    with pytest.raises(DataError, match="a.csv: it adds 'more'$"):
        read_table(f"{tmp_path}/*.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv.gz", gzip.compress(b""), "is empty"),
        ("t.csv.gz", gzip.compress(b"text,label\na,x\n")[:-9], "t.csv.gz cannot be read: "),
        ("t.csv.bz2", bz2.compress(b"text,label\na,x\n")[:-9], "t.csv.bz2 cannot be read: "),
        ("t.csv.xz", lzma.compress(b"text,label\na,x\n")[:-9], "t.csv.xz cannot be read: "),
        ("t.csv.zst", zstd(b"text,label\na,x\n")[:-9], "t.csv.zst cannot be read: "),
        ("t.csv.zip", b"no\0zip", "t.csv.zip cannot be read: File is not a zip file"),
        ("t.csv.zip", zipped(b"", "a.csv", "b.csv"), "cannot be read: a zip must hold one file, this one holds 2"),
        (
            "t.xls",
            b"",
            "unknown format; bertjax reads .csv, .tsv, .json, ",
        ),
        ("t.gz", b"", "unknown format"),
        ("table", b"", "unknown format"),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else None,
)
def test_files_that_cannot_be_opened(save, name, content, message):
    path = save(name, content)
    with pytest.raises(DataError, match=message) as caught:
        read_table(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_missing_sources_are_errors(save, tmp_path):
    with pytest.raises(
        DataError, match=r"^trek does not exist; give a file, a URL, or one of trec, sms-spam, snippets-tweets, "
    ):
        read_table("trek")
    with pytest.raises(DataError, match=rf"^{tmp_path} is a folder; name a file in it, or several: {tmp_path}/\*.csv$"):
        read_table(str(tmp_path))
    with pytest.raises(DataError, match=rf"^no file matches {tmp_path}/\*.csv$"):
        read_table(f"{tmp_path}/*.csv")
    with pytest.raises(DataError, match="/inside.csv does not exist"):
        read_table(save("t.csv", HEADER) + "/inside.csv")
    with pytest.raises(DataError, match="cannot be read: File name too long$"):
        read_table(f"{tmp_path}/{'t' * 300}.csv")
    with pytest.raises(DataError, match=r"^--encoding utf-9 is unknown"):
        read_table(save("t.csv", HEADER), Reading("utf-9"))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that the system refuses to read")
def test_read_error_of_the_disk(tmp_path):
    (tmp_path / "t.csv").symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match="t.csv cannot be read: Input/output error$"):
        read_table(str(tmp_path / "t.csv"))
