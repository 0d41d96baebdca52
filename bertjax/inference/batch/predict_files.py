"""`predict_files`: the answers of a model to the rows of files, part by part, beside the columns of the rows.

Each part is written under another name, renamed when it is complete, and then recorded in the manifest; so a start that
is killed leaves whole parts, and the next one goes on after the last of them.
"""

import hashlib
import os
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import bertjax
from bertjax.config import Execution, Pooling
from bertjax.data.encode.pretrained_tokenizer import tokenizer_digest
from bertjax.data.read.bad_rows import BadRow
from bertjax.data.read.sources import File, content_digest, files_of
from bertjax.errors import ConfigError, DataError, RunFolderError, writing
from bertjax.inference.batch.column_types import ColumnTypes
from bertjax.inference.batch.local_engine import answered_here
from bertjax.inference.batch.output_place import OutputPlace
from bertjax.inference.batch.part_formats import join_bytes
from bertjax.inference.batch.part_manifest import FinishedPart, PartManifest, Plan
from bertjax.inference.batch.plain_values import json_text
from bertjax.inference.batch.row_answers import EMBEDDING, ON_REQUEST, Answered, Request, check_request, vectors_alone
from bertjax.inference.batch.row_source import PartSizes, RowSource, Survey
from bertjax.inference.decision_rule import load_rule
from bertjax.inference.loaded_model import LoadedModel, load_model
from bertjax.pretrained.files import resolve_model, weights_digest
from bertjax.settings import flatten
from bertjax.stage_progress import UNSHOWN, Advance, StageProgress
from bertjax.storage.folder_lock import locked_folder
from bertjax.tasks import find_postprocess
from bertjax.tasks.postprocess import AnswerOptions

_READING = (
    "text",
    "text_pair",
    "candidates",
    "tag_scheme",
    "doc_stride",
    "documents",
    "encoding",
    "delimiter",
    "quoting",
    "escape",
    "on_bad_row",
)  # fmt: skip  settings of the table that say how rows are read


class Engine(Protocol):
    """Computes the answers."""

    def __call__(
        self,
        loaded: LoadedModel,
        source: RowSource,
        survey: Survey,
        sizes: PartSizes,
        first_part: int,
        request: Request,
    ) -> Generator[Answered]:
        """The answered chunks of a source from a part on, in their order."""
        ...


class PredictionJob(NamedTuple):
    """What to predict, and how it is written.

    Attributes:
      model: a folder, a hub id, a name of the catalog, or `models:/NAME@ALIAS` of MLflow's registry.
      data: a file, a pattern of files, or an address.
      place: of the answers.
      columns: fields of `Table` that are others than in training, such as `text` or `delimiter`.
      request: what is written of the answers.
      sizes: of parts, and of what is computed together.
      max_length: longest text in tokens; default: as in training.
      pooling: how a text becomes one vector, for a bare encoder that does not say so.
      execution: how to run the network.
      bad_rows: file for the rows that have no answer; default: they are only counted.
    """

    model: str
    data: str
    place: OutputPlace
    columns: Mapping[str, Any] = {}
    request: Request = Request()
    sizes: PartSizes = PartSizes(2**15, 2**12)
    max_length: int | None = None
    pooling: Pooling | None = None
    execution: Execution | None = None
    bad_rows: Path | None = None


class FilesPredicted(NamedTuple):
    """The result: rows with an answer, rows without, and the names of all columns."""

    answered: int
    left_out: int
    columns: tuple[str, ...]


def predict_files(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    columns: Mapping[str, Any] = {},
    probabilities: bool = False,
    top_k: int = 0,
    threshold: float | None = None,
    rule: str | Path | None = None,
    embeddings: bool = False,
    engine: Engine = answered_here,
    resume: bool = False,
    overwrite: bool = False,
) -> FilesPredicted:
    """Writes a model's answer to every row of files beside the columns of the rows; what `bertjax predict` does.

    Args:
      model: a folder, a hub id, a name of the catalog, or `models:/NAME@ALIAS` of MLflow's registry.
      data: a file, a pattern of files, or an address.
      out: a file (.csv, .tsv, .jsonl, .parquet), or a folder of parts.
      columns: fields of `Table` that are others than in training, such as `text` or `delimiter`.
      probabilities: whether to write the probability of each label.
      top_k: likeliest labels to write; 0 for the likeliest alone.
      threshold: least probability of a label.
      rule: Python file with a function decide(prediction, row), instead of a threshold.
      embeddings: whether to write the vector of each text.
      engine: computes the answers: this process, or `bertjax.RayPool()`, actors on Ray.
      resume: go on after the finished parts of an earlier start.
      overwrite: replace what is there.

    Raises:
      UserError: see `run_job`.
    """
    options = AnswerOptions(top_k, threshold)
    decide = None if rule is None else load_rule(rule)
    request = Request(options, probabilities, embeddings=embeddings, rule=decide)
    job = PredictionJob(str(model), str(data), OutputPlace.of(str(out), None), columns, request)
    return run_job(job, engine, resume, overwrite)


def run_job(
    job: PredictionJob,
    engine: Engine = answered_here,
    resume: bool = False,
    overwrite: bool = False,
    progress: StageProgress = UNSHOWN,
) -> FilesPredicted:
    """Predicts every row of the files of a job.

    Args:
      job: what to predict.
      engine: computes the answers; which one changes them by rounding alone.
      resume: go on after the finished parts of an earlier start.
      overwrite: replace what is there.
      progress: shows it.

    Raises:
      UserError: a model, rows or an output that cannot be used, or an earlier start that was another job.
    """
    place = job.place
    with _held(place):
        place.check(resume, overwrite)
        _check_bad_rows(job.bad_rows, resume or overwrite)
        files = tuple(files_of(job.data))
        place.check_inputs(files)
        loaded, made_from = _load(job, files)
        task = loaded.model.task
        check_request(job.request, loaded)
        any_text, vectors = "text" not in job.columns, vectors_alone(task, job.request)
        source = RowSource(job.data, files, task, loaded.table, any_text, vectors)
        manifest = PartManifest(place)
        plan, finished = (manifest.plan(made_from, source), manifest.finished()) if resume else (None, [])
        if plan is None:
            plan = _new_plan(job, source)
            place.clear()
            manifest.begin(made_from, plan)
        try:
            done = sum(part.rows for part in finished)
            with progress.stage("", "rows", plan.survey.rows, done) as advance:
                for part in _new_parts(job, plan, loaded, engine, finished, advance):
                    manifest.add(part)
                    finished.append(part)
        except BaseException:
            if not finished:
                place.clear()  # there is nothing to go on with
            raise
        if sum(part.rows for part in finished) != plan.survey.rows:
            raise DataError(f"{job.data} changed while it was read; begin again with --overwrite")
        return _end(job, finished)


@contextmanager
def _held(place: OutputPlace) -> Iterator[None]:
    """Keeps other processes out of the parts; their folder goes when it is empty, unless it is the output."""
    try:
        with locked_folder(place.parts):
            yield
    finally:
        if not place.is_folder:
            with suppress(OSError):
                place.parts.rmdir()


def _new_plan(job: PredictionJob, source: RowSource) -> Plan:
    types = ColumnTypes() if job.place.format.typed else None
    source, survey = source.survey(types)
    answers = () if source.vectors else find_postprocess(source.task).columns
    declared = [name for name in answers if name not in ON_REQUEST]
    declared += [EMBEDDING] if job.request.embeddings else []
    _check_names(survey.columns, [job.request.prefix + name for name in declared])
    return Plan(source, survey, None if types is None else types.schema)


def _load(job: PredictionJob, files: Sequence[File]) -> tuple[LoadedModel, dict[str, Any]]:
    """The model, and all that the answers are made from, as plain values by name."""
    folder = resolve_model(job.model)
    loaded = load_model(folder, job.execution, job.columns, job.pooling)
    longest = min(job.max_length or loaded.max_length, loaded.model.config.max_length)
    loaded, request = loaded._replace(max_length=longest), job.request
    made_from = {
        "bertjax": bertjax.__version__,
        "weights": weights_digest(folder),
        "tokenizer": tokenizer_digest(loaded.tokenizer),
        "config": hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()[:16],
        "max_length": longest,
        "pooling": loaded.model.pooling,
        "rule": None if request.rule is None else request.rule.digest,
        **{f"execution.{name}": value for name, value in flatten(job.execution or Execution()).items()},
        **{f"data.{name}": value for name, value in flatten(loaded.table).items() if name in _READING},
        **flatten(request.options),
        **{name: value for name, value in request._asdict().items() if name not in ("options", "rule")},
        "format": job.place.format.suffix,
        "rows_per_part": job.sizes.rows_per_part,
        **{f"file {number}": [file.name, content_digest(file)] for number, file in enumerate(files, start=1)},
    }
    return loaded, made_from


def _check_bad_rows(path: Path | None, replaces: bool) -> None:
    """Makes sure that the file of rows without an answer can be written at the end."""
    if path is None:
        return
    if path.is_dir():
        raise RunFolderError(f"--bad-rows {path} is a folder; name a file")
    if path.exists() and not replaces:
        raise RunFolderError(f"--bad-rows {path} exists; --overwrite replaces it")
    with writing(path, "choose another --bad-rows"):
        path.parent.mkdir(parents=True, exist_ok=True)


def _check_names(columns: Collection[str], answers: Collection[str]) -> None:
    """Raises a ConfigError where an answer has the name of an input column."""
    taken = [name for name in answers if name in columns]
    if taken:
        raise ConfigError(
            f"the rows have a column {taken[0]!r} themselves; --prefix predicted_ names the answers "
            f"predicted_{taken[0]} and so on"
        )


def _new_parts(
    job: PredictionJob,
    plan: Plan,
    loaded: LoadedModel,
    engine: Engine,
    finished: Sequence[FinishedPart],
    advance: Advance,
) -> Generator[FinishedPart]:
    """Computes and writes the parts that are not finished; each is complete when it is yielded."""
    if sum(part.rows for part in finished) >= plan.survey.rows:
        return
    place, columns = job.place, plan.survey.columns
    names = finished[0].columns[len(columns) :] if finished else []
    with closing(engine(loaded, plan.source, plan.survey, job.sizes, len(finished), job.request)) as chunks:
        for number, of_part in groupby(chunks, key=lambda chunk: chunk.part):
            rows, answered, left_out = 0, 0, list[BadRow]()
            with _new_file(place.part(number)) as scratch:
                with place.format.open(scratch, place.is_folder, plan.schema) as writer:
                    for chunk in of_part:
                        names = names or list(chunk.answers)
                        _check_names(columns, names)
                        writer.write(chunk.frame, _in_columns(chunk, names))
                        rows, answered = rows + chunk.rows, answered + len(chunk.frame)
                        left_out += chunk.left_out
                        advance(chunk.rows)
                size = scratch.stat().st_size
            _write_left_out(place.left_out(number), left_out)
            yield FinishedPart(number, rows, answered, len(left_out), size, [*columns, *names])


def _in_columns(chunk: Answered, names: Sequence[str]) -> dict[str, list[Any]]:
    """The answers of a chunk in the columns that the first rows had; a column that it lacks is empty."""
    new = [name for name in chunk.answers if name not in names]
    if new:
        raise DataError(f"an answer has {new[0]!r}, and those before it have not; give all rows the same columns")
    return {name: chunk.answers.get(name, [None] * len(chunk.frame)) for name in names}


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """A scratch file that takes its place when the block ends, safe on the disk, and is removed if the block fails."""
    scratch = path.with_name(f".{path.name}.tmp")
    with writing(path, "free some space, or choose another place"):
        try:
            yield scratch
            with scratch.open("rb") as written:
                os.fsync(written.fileno())
            scratch.replace(path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


def _write_left_out(path: Path, rows: Sequence[BadRow]) -> None:
    path.unlink(missing_ok=True)
    if rows:
        lines = (json_text({"file": row.source, row.unit: row.line, "reason": row.reason}) for row in rows)
        with _new_file(path) as scratch:
            scratch.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _end(job: PredictionJob, finished: Sequence[FinishedPart]) -> FilesPredicted:
    """Makes one file of the parts, where a file is asked for, and one of the rows without an answer."""
    place = job.place
    columns = max((part.columns for part in finished), key=len)  # a first part without an answered row has fewer
    if job.bad_rows is not None:
        with _new_file(job.bad_rows) as scratch:
            join_bytes(filter(Path.exists, (place.left_out(part.part) for part in finished)), scratch)
    if not place.is_folder:
        with _new_file(place.out) as scratch:
            place.format.join([place.part(part.part) for part in finished], scratch, columns)
        place.clear()
    counts = (sum(part.answered for part in finished), sum(part.left_out for part in finished))
    return FilesPredicted(*counts, tuple(columns))
