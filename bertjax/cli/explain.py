"""`bertjax explain`: which words a model's answer is due to."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from bertjax.cli.flags.model_choice import BestRun, chosen_model
from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.process.messages import say
from bertjax.errors import ConfigError, writing
from bertjax.inference.explanations.explain_options import ExplainOptions
from bertjax.settings import Count

if TYPE_CHECKING:
    from rich.console import Console

    from bertjax.inference.explanations.explanation import Explanation
    from bertjax.inference.loaded_model import LoadedModel
    from bertjax.report_pages.blocks import ColouredText

_TOP = 10  # words whose weights are printed
_FAINT = 0.05  # of the strongest weight; weaker words are printed plainly
_FIRST_ROWS = 10  # of a table, where no rows are named


@dataclass(frozen=True)
class Arguments:
    """Explain a model's answers: a weight for each word of a text, above 0 where it speaks for the label.

    Texts are read, cleaned and cut as those that the model was trained on. Red words speak for the label, blue ones
    against it.
    """

    model: str
    """The model: a folder (such as `model/` of a run), a hub id, models:/NAME@ALIAS of MLflow's registry, or `best`:
    that of an experiment's best run (--experiment, --metric)."""

    text: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="TEXT")] = ()
    """A text; give the flag again for each further one."""

    pair: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="TEXT")] = ()
    """The second text of a pair, once for each --text, in their order."""

    data: str | None = None
    """Rows of a table instead: a file, a pattern of several, or an address."""

    rows: tuple[Count, ...] = ()
    """Which rows of --data, counted from 1; default: the first ten."""

    options: ExplainOptions = field(default_factory=ExplainOptions)

    out: Path | None = None
    """A file to write the explanations to: .json, a page (.html) or Markdown (.md)."""

    overwrite: bool = False
    """Replace the file if it is there."""

    best_run: BestRun = field(default_factory=BestRun)


def main(arguments: Sequence[str]) -> int:
    """Prints the explanations."""
    parsed = parse(Arguments, arguments, "bertjax explain")
    _check(parsed)
    from rich.console import Console

    from bertjax.inference.loaded_model import load_model
    from bertjax.inference.predictor import Predictor

    loaded = load_model(chosen_model(parsed.model, parsed.best_run))
    longest = min(loaded.max_length, loaded.model.config.max_length)
    predictor = Predictor(loaded._replace(max_length=longest))
    predictor.check_explained(parsed.options)
    names, texts = zip(*(_table_rows(parsed, loaded) if parsed.data else _given(parsed)), strict=True)
    explanations = predictor.explain(texts, parsed.options)
    console = Console()
    for name, explanation in zip(names, explanations, strict=True):
        _print(console, name, explanation)
    if parsed.out is not None:
        with writing(parsed.out, "choose another file"):
            parsed.out.write_text(
                _FILES[parsed.out.suffix](parsed, list(zip(names, explanations, strict=True))), "utf-8"
            )
        say(f"the weights of all words are in {parsed.out}")
    return 0


def _json(parsed: Arguments, named: Sequence[tuple[str, "Explanation"]]) -> str:
    records = [{"name": name, "texts": found.texts, **found.to_json(), "answer": found.answer} for name, found in named]
    return json.dumps(records, ensure_ascii=False, indent=1) + "\n"


def _page(parsed: Arguments, named: Sequence[tuple[str, "Explanation"]]) -> str:
    from bertjax.inference.explanations.explanation_blocks import explained_section
    from bertjax.report_pages.html_report import render_sections

    return render_sections("Why the model says so", [explained_section(named)], parsed.model)


def _markdown(parsed: Arguments, named: Sequence[tuple[str, "Explanation"]]) -> str:
    from bertjax.inference.explanations.explanation_blocks import explained_section
    from bertjax.report_pages.markdown_report import render_markdown

    return render_markdown("Why the model says so", [explained_section(named)], parsed.model)


_FILES = {".json": _json, ".html": _page, ".md": _markdown}


def _check(parsed: Arguments) -> None:
    """Raises a `ConfigError` where flags are missing or contradict each other."""
    if bool(parsed.text) == (parsed.data is not None):
        raise ConfigError("give --text (once for each text) or --data, and not both")
    if parsed.pair and len(parsed.pair) != len(parsed.text):
        raise ConfigError(f"--pair is the second text of a pair; give it once for each --text ({len(parsed.text)})")
    if parsed.rows and parsed.data is None:
        raise ConfigError("--rows are rows of a table; name it with --data")
    for flag, texts in (("text", parsed.text), ("pair", parsed.pair)):
        for number, text in enumerate(texts, start=1):
            if not text.strip():
                raise ConfigError(f"--{flag} {number} is empty; give a text with a word in it")
    if parsed.out is not None and parsed.out.suffix not in _FILES:
        raise ConfigError(f"--out {parsed.out} is no .json, .html or .md file, which are what is written")
    if parsed.out is not None and parsed.out.exists() and not parsed.overwrite:
        raise ConfigError(f"{parsed.out} is there already; give --overwrite to replace it")


def _given(parsed: Arguments) -> Iterator[tuple[str, Any]]:
    """(name, text or pair) of each text on the command line."""
    texts: list[Any] = list(zip(parsed.text, parsed.pair, strict=True)) if parsed.pair else list(parsed.text)
    yield from ((f"text {number}", text) for number, text in enumerate(texts, start=1))


def _table_rows(parsed: Arguments, loaded: "LoadedModel") -> Iterator[tuple[str, Any]]:
    """(name, text or pair) of each row that is asked for.

    Raises:
      DataError: rows that cannot be read.
      ConfigError: a row that is not there.
    """
    from bertjax.data.read.sources import files_of
    from bertjax.inference.batch.row_source import PartSizes, RowSource

    assert parsed.data is not None
    table = replace(loaded.table, on_bad_row="stop")
    source = RowSource(parsed.data, tuple(files_of(parsed.data)), loaded.model.task, table)
    source, survey = source.survey()
    wanted = parsed.rows or tuple(range(1, min(_FIRST_ROWS, survey.rows) + 1))
    if (last := max(wanted)) > survey.rows:
        raise ConfigError(f"{parsed.data} has {survey.rows} rows; there is no row {last}")
    found: dict[int, Any] = {}
    first = 1
    for chunk in source.chunks(survey, PartSizes(survey.rows, 4096)):
        entries = source.entries(chunk.frame, chunk.origins)
        found |= {first + place: text for place, text in zip(entries.usable, entries.texts, strict=True)}
        first += len(chunk.frame)
        if first > last:
            break
    yield from ((f"row {number}", found[number]) for number in wanted)


def _print(console: "Console", name: str, explanation: "Explanation") -> None:
    """The answer, the text with its words in colours or with their numbers behind them, and the strongest words."""
    from bertjax.inference.explanations.explanation_blocks import coloured_texts, facts, said

    say(f"{name}: {said(explanation)}")
    in_colour = console.is_terminal and not console.no_color
    largest = max((abs(word.weight) for word in explanation.words), default=0.0)
    for text in coloured_texts(explanation):
        if in_colour:
            console.print(_coloured(text), soft_wrap=True)
        else:
            say("  " + "".join(part + _number(share * largest, share) for part, share in text.parts))
    strongest = explanation.strongest[:_TOP]
    say("  " + ", ".join(f"{word.word} {word.weight:+.4f}" for word in strongest))
    say(f"  {facts(explanation)}")


def _number(weight: float, share: float) -> str:
    """The weight behind a word, where it is strong enough."""
    return f"({weight:+.2g})" if abs(share) >= _FAINT else ""


def _coloured(text: "ColouredText") -> Any:
    from rich.text import Text

    from bertjax.report_pages.literal_text import literal

    line = Text("  ")
    for part, share in text.parts:
        strength = round(200 * abs(share))
        pale = 255 - strength
        colour = f"rgb(255,{pale},{pale})" if share > 0 else f"rgb({pale},{pale},255)"
        line.append(literal(part), f"black on {colour}" if abs(share) >= _FAINT else "")
    return line
