"""The command `bertjax`: finds the subcommand, runs it, and turns a user's mistake into one line and status 2.

A subcommand is a module of this folder with `main(arguments) -> status`. It is imported only when it is called, so
`bertjax --help` answers at once.
"""

import errno
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TextIO

from bertjax import __version__
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.cli.process.messages import complain
from bertjax.cli.process.process_setup import compiled_folder, prepare_process
from bertjax.cli.process.stop_signals import TERMINATED, Terminated
from bertjax.errors import UserError, check_interpreter
from bertjax.report_pages.literal_text import literal

# Subcommand -> its one-line help. The module has the same name, with _ for -.
COMMANDS = {
    "fetch": "weights and data sets of the catalog, into the cache, hashes checked",
    "eda": "what a table is like before training: a page, its numbers, and a clean copy",
    "label": "weak labels of a table without labels, from labelling functions",
    "label-issues": "doubtful labels of a training table, by models that did not see them; the table without them",
    "finetune": "fine-tune a pretrained BERT on a labelled table; with no flags: MiniLM-L6 on TREC questions",
    "pretrain": "masked-LM continued pre-training of a BERT on your own text",
    "evaluate": "a model on a labelled table: metrics, confusion, predictions, report",
    "explain": "which words a model's answer is due to",
    "predict": "a model over files of any size: labels, probabilities, entities or vectors beside their columns",
    "serve": "a model behind HTTP, with a page for people; one process, or replicas on Ray Serve",
    "sweep": "a search over configs, resumable",
    "sync": "what runs recorded while their MLflow was away, sent to it",
    "parity": "JAX against PyTorch on one checkpoint, layer by layer",
    "compare": "JAX against PyTorch on one job, over several seeds: scores, curves, speed, memory",
    "doctor": "what this machine has for bertjax: packages, devices, speed, cache, MLflow, Ray; and what to mend",
    "completion": "the shell's completion of commands and flags: bash, zsh or fish",
    "export": "a checkpoint as a Hugging Face folder, with tokenizer and model card",
}

_LONG_JOBS = (
    "finetune", "pretrain", "evaluate", "explain", "predict", "serve", "label", "label-issues", "sweep", "parity",
    "compare",
)  # fmt: skip

# A disk that is full or that we may not write to: no fault of the program.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return ExitCode.OK if words else ExitCode.USAGE
    if words[0] == "--version":
        print(f"bertjax {__version__}")
        return ExitCode.OK
    command, *rest = words
    if command not in COMMANDS:
        return _refuse(f"{command!r} is no command; there are {', '.join(COMMANDS)} (see bertjax --help)")
    if arguments is None and command in _LONG_JOBS:
        prepare_process()
    return run(lambda: subcommand(command, rest), debug)


def subcommand(command: str, words: Sequence[str]) -> int:
    """Runs a subcommand with the words after its name.

    Returns:
      Its exit status.

    Raises:
      UserError: a user's mistake.
    """
    status: int = import_module(f"bertjax.cli.{command.replace('-', '_')}").main(words)
    return status


def run(job: Callable[[], int], debug: bool = False) -> int:
    """Runs a job and returns its exit status; a user's mistake is one line on stderr and status 2."""
    _configure_logging(debug)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a label that the terminal's encoding lacks
    try:
        check_interpreter()
        return job()
    except UserError as error:
        if debug:
            traceback.print_exc()
        return _refuse(str(error))
    except Terminated:
        complain("terminated")
        return TERMINATED
    except KeyboardInterrupt:
        complain("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; the final flush must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        if debug:
            traceback.print_exc()
        return _refuse(f"{error.filename or 'a file'}: {error.strerror}; free some space, or choose another folder")


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"    {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: bertjax COMMAND [FLAGS]",
            "",
            "bertjax fine-tunes BERT in JAX.",
            "",
            *lines,
            "",
            "bertjax COMMAND --help shows the flags of a command. --debug shows the traceback of an error,",
            "--version the version.",
            "",
            f"Long jobs keep what JAX compiles for the next start, up to 2 GiB, in {compiled_folder()}",
            "(JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false keeps nothing), and",
            "start themselves with huge pages (GLIBC_TUNABLES).",
        ]
    )


def _refuse(message: str) -> int:
    complain(message)
    return ExitCode.USAGE


class _LineFormatter(logging.Formatter):
    """The message of a record; bertjax's own are a line each, whatever the text of users that they quote."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own name
        return literal(record.message) if record.name.startswith("bertjax") else record.message


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the present `sys.stderr`, which a progress bar replaces."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record is not one of Orbax's about an error that it raises too: bertjax reports that in one line."""
    is_raised = record.exc_info is not None or str(record.msg).startswith("Metadata file does not exist")
    return not (record.name.startswith(("absl", "orbax")) and is_raised)


def _configure_logging(debug: bool) -> None:
    """bertjax's own messages as plain lines; other libraries only when something is wrong."""
    handler = _StderrHandler()
    handler.setFormatter(_LineFormatter())
    if not debug:
        handler.addFilter(_is_news)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("bertjax").setLevel(logging.DEBUG if debug else logging.INFO)
    # They log normal events at WARNING or INFO: no TPU, a new database, a finished save, a repeated request.
    for chatty in ("jax", "alembic", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    # These two set their levels at import: no messages about new tables, nor about a missing PyTorch.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
