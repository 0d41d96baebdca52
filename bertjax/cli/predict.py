"""`bertjax predict`: the answers of a model to the rows of files, at any size."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertjax.cli.flags.model_choice import BestRun, chosen_model
from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.cli.process.messages import complain, say
from bertjax.cli.process.stop_signals import TERMINATED, sigterm_as_ctrl_c
from bertjax.config import Execution, Pooling
from bertjax.data.table import Documents, Table
from bertjax.errors import ConfigError
from bertjax.settings import Count, CountFromZero

if TYPE_CHECKING:
    from bertjax.inference.batch.predict_files import Engine, PredictionJob

# Flag -> the setting of a table that it changes.
_COLUMNS = {
    "text_columns": "text",
    "pair_columns": "text_pair",
    "candidates": "candidates",
    "documents": "documents",
    "delimiter": "delimiter",
    "quoting": "quoting",
    "escape": "escape",
    "encoding": "encoding",
    "on_bad_row": "on_bad_row",
}


@dataclass(frozen=True)
class Arguments:
    """Predict every row of files: the model's answers beside the columns of the rows, in their order.

    The rows are read and cleaned as those that the model was trained on. Finished parts of the output survive whatever
    happens to the process; --resume goes on after them.
    """

    model: str
    """The model: a folder (such as `model/` of a run), a hub id, models:/NAME@ALIAS of MLflow's registry, or `best`:
    that of an experiment's best run (--experiment, --metric)."""

    data: str
    """The rows: a file (csv, tsv, json lines, json, parquet, xlsx, CoNLL, lines of plain text; compressed or not), a
    pattern of several, or an address."""

    out: str
    """Where the answers go: a file (.csv, .tsv, .jsonl, .parquet), or a folder of parts (a name without suffix, or
    with / at its end)."""

    format: Literal["csv", "tsv", "jsonl", "parquet"] | None = None
    """Of the parts of a folder; default: parquet."""

    probabilities: bool = False
    """Write the probability of each label, too."""

    top_k: Count | None = None
    """Write the K likeliest labels, answers or words, too."""

    entities: bool = False
    """Write the entities of each text, with their places in it."""

    embeddings: bool = False
    """Write the vector of each text, of length 1."""

    pooling: Pooling | None = None
    """How a text becomes one vector, for a bare encoder that was saved without saying so; most sentence encoders take
    the mean."""

    threshold: float | None = None
    """Least probability of a label (below it a class is `other`, if that is one, or `uncertain`), or least margin of an
    answer to a question; default: what the model says is written as it is."""

    rule: Path | None = None
    """Python file with a function decide(prediction, row), whose label is written in the place of the model's."""

    prefix: str = ""
    """What the names of the model's columns begin with, where the rows have columns of the same names."""

    text_columns: tuple[str, ...] | None = None
    """Columns with the text; default: those of the training rows, or the lines of plain text."""

    pair_columns: tuple[str, ...] | None = None
    """Columns with the second text of a pair; default: those of the training rows."""

    candidates: tuple[str, ...] | None = None
    """Columns with the candidates of a multiple choice; default: those of the training rows."""

    documents: Documents | None = None
    """What a row of plain text is: a line, or the whole of a file; default: as in training."""

    encoding: str = Table.encoding
    """Encoding of text files."""

    delimiter: str | None = None
    """What separates the cells of a csv or tsv file; default: as its suffix and its first lines say."""

    quoting: Literal["on", "off"] | None = None
    """Whether cells of a csv or tsv file may be in quotes; off: quotes are text. Default: as the file shows."""

    escape: str | None = None
    """Character of a csv or tsv file after which a quote or a delimiter is text."""

    on_bad_row: Literal["stop", "skip"] = Table.on_bad_row
    """What a row does that cannot be read, or has no text: stop the job before it begins, with its line, or be left out
    and counted."""

    bad_rows: Path | None = None
    """Json lines file for the rows that are left out: file, line and reason."""

    max_length: Count | None = None
    """Longest text in tokens; what is longer is cut. Default: as in training."""

    rows_per_part: Count = 32_768
    """Rows of a part: so many are lost at most when the process is killed."""

    batch_size: Count = 4096
    """Rows that are tokenized and computed together; changes speed and memory, and no answer beyond rounding."""

    engine: Literal["local", "ray"] = "local"
    """What computes: this process on the devices of this machine, or a pool of Ray actors."""

    workers: CountFromZero = 0
    """Actors of the pool; default: one for each GPU or TPU chip, or else one fewer than there are CPUs."""

    address: str | None = None
    """The Ray cluster, HOST:PORT; default: the one that RAY_ADDRESS names, or else Ray on this machine."""

    execution: Execution = field(default_factory=Execution)

    best_run: BestRun = field(default_factory=BestRun)

    resume: bool = False
    """Go on after the finished parts of an earlier start with the same flags; without one, begin."""

    overwrite: bool = False
    """Replace the output if it is there."""


def main(arguments: Sequence[str]) -> int:
    """Predicts, and says where the answers are."""
    parsed = parse(Arguments, arguments, "bertjax predict")
    _check(parsed)
    with sigterm_as_ctrl_c() as sigterm:
        from bertjax.inference.batch.predict_files import run_job
        from bertjax.stage_progress import stages_for_stderr

        job = _job(parsed)
        try:
            result = run_job(job, _engine(parsed), parsed.resume, parsed.overwrite, progress=stages_for_stderr())
        except KeyboardInterrupt:
            kept = job.place.manifest.exists()
            parts = f"its finished parts are in {job.place.parts}: --resume with the same flags goes on"
            complain(f"stopped; {parts if kept else 'nothing was written'}")
            return TERMINATED if sigterm.received else ExitCode.INTERRUPTED
    left_out = f", {result.left_out} left out" if result.left_out else ""
    listed = f" (see {job.bad_rows})" if result.left_out and job.bad_rows else ""
    say(f"{result.answered} rows predicted{left_out}{listed}; they are in {job.place.out}")
    return ExitCode.OK


def _check(parsed: Arguments) -> None:
    """Raises a `ConfigError` where flags contradict each other."""
    if parsed.resume and parsed.overwrite:
        raise ConfigError("--resume goes on with an earlier start and --overwrite deletes it; give one of them")
    if parsed.bad_rows is not None and parsed.on_bad_row == "stop":
        raise ConfigError("--bad-rows lists the rows that --on-bad-row skip leaves out; give both")
    if parsed.engine == "local" and (parsed.workers or parsed.address):
        raise ConfigError("--workers and --address are of --engine ray; give that, too")
    if parsed.rule is not None and parsed.threshold is not None:
        raise ConfigError("--rule decides in the place of --threshold; give one of them")


def _job(parsed: Arguments) -> "PredictionJob":
    from bertjax.inference.batch.output_place import OutputPlace
    from bertjax.inference.batch.predict_files import PredictionJob
    from bertjax.inference.batch.row_answers import Request
    from bertjax.inference.batch.row_source import PartSizes
    from bertjax.inference.decision_rule import load_rule
    from bertjax.tasks.postprocess import AnswerOptions

    columns: dict[str, Any] = {
        setting: getattr(parsed, flag) for flag, setting in _COLUMNS.items() if getattr(parsed, flag) is not None
    }
    request = Request(
        AnswerOptions(parsed.top_k or 0, parsed.threshold),
        parsed.probabilities,
        parsed.entities,
        parsed.embeddings,
        None if parsed.rule is None else load_rule(parsed.rule),
        parsed.prefix,
    )
    return PredictionJob(
        model=chosen_model(parsed.model, parsed.best_run),
        data=parsed.data,
        place=OutputPlace.of(parsed.out, parsed.format),
        columns=columns,
        request=request,
        sizes=PartSizes(parsed.rows_per_part, parsed.batch_size),
        max_length=parsed.max_length,
        pooling=parsed.pooling,
        execution=parsed.execution,
        bad_rows=parsed.bad_rows,
    )


def _engine(parsed: Arguments) -> "Engine":
    if parsed.engine == "ray":
        from bertjax.inference.batch.ray_pool import RayPool

        return RayPool(parsed.workers, parsed.address)
    from bertjax.inference.batch.local_engine import answered_here

    return answered_here
