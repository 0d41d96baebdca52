"""Explained example predictions: right and wrong ones, most and least confident ones."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from bertjax.errors import ConfigError
from bertjax.evaluation.judged_rows import Finding, JudgedRows
from bertjax.evaluation.look_settings import EXPLANATIONS, ExplainedMistakes
from bertjax.inference.explanations.explainer import Explainer
from bertjax.inference.explanations.explanation import Explanation
from bertjax.inference.explanations.explanation_blocks import explanation_blocks
from bertjax.report_pages.blocks import Block, DataTable, Paragraph, Section
from bertjax.tasks import find_task
from bertjax.tasks.postprocess import Prediction

_WORDS_OF_A_LABEL = 8


class _Kind(NamedTuple):
    """Answers of a kind, the first ones first."""

    title: str
    rows: list[int]


def check_explained_mistakes(task: str) -> None:
    """Checks that a model's answers are right or wrong, and can be explained.

    Raises:
      ConfigError: they are not.
    """
    postprocess = find_task(task).postprocess
    if postprocess is None or not {"label", "probabilities"} <= postprocess.columns.keys():
        raise ConfigError(f"--explain is for models that give a row one label; this one's task is {task}")


def explained_mistakes(judged: JudgedRows, settings: ExplainedMistakes) -> Finding:
    """Explains rows of each kind by integrated gradients, for the label that the model gives.

    Args:
      judged: a model's answers to labelled rows.
      settings: how many of a kind.

    Raises:
      ConfigError: see `check_explained_mistakes`.
    """
    check_explained_mistakes(judged.loaded.model.task)
    answers = judged.predictions()
    kinds = [kind for kind in _kinds(answers, settings.explain) if kind.rows]
    chosen = list(dict.fromkeys(row for kind in kinds for row in kind.rows))
    explainer = Explainer.of(judged.loaded)
    found = dict(
        zip(chosen, explainer.explain(judged.rows.take(chosen), [answers[row] for row in chosen]), strict=True)
    )
    blocks: list[Block] = [
        Paragraph(
            "Words in blue speak for the label that the model gives, words in orange against it; the strongest word of "
            "a text has the full colour."
        )
    ]
    for kind in kinds:
        blocks.append(Paragraph(kind.title))
        for row in kind.rows:
            blocks += explanation_blocks(found[row], _caption(answers[row]))
    blocks.append(_words_by_label([found[row] for row in chosen]))
    lines = (_line(answers[row], found[row]) for row in chosen)
    return Finding(Section("explanations", "Explained answers", blocks), files={EXPLANATIONS: "".join(lines)})


def _line(answer: Prediction, explanation: Explanation) -> str:
    record = {"row": answer["row"], "true": answer["true"], **explanation.to_json()}
    return json.dumps(record, ensure_ascii=False) + "\n"


def _kinds(answers: Sequence[Prediction], count: int) -> list[_Kind]:
    """The kinds of answers; a row that is both most and least sure of its kind is only the former."""
    kinds = []
    for is_right, name in ((False, "Wrong"), (True, "Right")):
        rows = [row for row, answer in enumerate(answers) if (answer["label"] == answer["true"]) == is_right]
        by_surety = sorted(rows, key=lambda row: -answers[row]["probability"])
        most = _of_all_classes(answers, by_surety, count)
        rest = [row for row in reversed(by_surety) if row not in most]
        kinds.append(_Kind(f"{name}, and most sure", most))
        kinds.append(_Kind(f"{name}, and least sure", _of_all_classes(answers, rest, count)))
    return kinds


def _of_all_classes(answers: Sequence[Prediction], rows: Sequence[int], count: int) -> list[int]:
    """The first rows of each true class, then the second ones, and so on, so many in all."""
    seen: defaultdict[str, int] = defaultdict(int)
    ranks = []
    for place, row in enumerate(rows):
        ranks.append((seen[answers[row]["true"]], place, row))
        seen[answers[row]["true"]] += 1
    return [row for _, _, row in sorted(ranks)[:count]]


def _caption(answer: Prediction) -> str:
    return f"Row {answer['row']}: {answer['true']}, said to be {answer['label']} ({answer['probability']:.1%})"


def _words_by_label(explanations: Sequence[Explanation]) -> DataTable:
    """The words that speak most for each label, added up over the explained rows."""
    sums: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for explanation in explanations:
        for word in explanation.words:
            sums[explanation.label or ""][word.word.lower()] += word.weight
    rows = [
        (label, word, weight)
        for label, of_label in sorted(sums.items())
        for word, weight in sorted(of_label.items(), key=lambda item: -item[1])[:_WORDS_OF_A_LABEL]
        if weight > 0
    ]
    return DataTable(("label", "word", "weight"), rows, "Words that speak for each label, over the rows above")
