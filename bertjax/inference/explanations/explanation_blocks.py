"""Explanations as blocks of a report: the text with its words coloured, and a table of their weights."""

from collections.abc import Iterator, Sequence

from bertjax.inference.explanations.explanation import Explanation
from bertjax.inference.explanations.targets import NO_ANSWER
from bertjax.report_pages.blocks import Block, ColouredText, DataTable, Details, Paragraph, Section
from bertjax.tasks.postprocess import Prediction

_NAMES = {
    "integrated_gradients": "integrated gradients",
    "rollout": "attention roll-out",
    "occlusion": "occlusion",
    "lime": "LIME",
}


def explained_section(named: Sequence[tuple[str, Explanation]]) -> Section:
    """The section of a page that explains texts, each under its name."""
    blocks: list[Block] = [
        Paragraph(
            "Words in red speak for what is explained, words in blue against it; the strongest word of a text has the "
            "full colour."
        )
    ]
    for name, explanation in named:
        blocks += explanation_blocks(explanation, f"{name}: {said(explanation)}")
    return Section("explanations", "Explained answers", blocks)


def said(explanation: Explanation) -> str:
    """In words, the answer, or the part of it that is explained."""
    answer = explanation.answer
    if explanation.explained is not None:
        return f"{explanation.explained} ({_said_of_part(explanation)})"
    if explanation.label == NO_ANSWER:
        return NO_ANSWER
    label = answer.get("label") or ", ".join(answer.get("labels", ())) or _numbers(answer)
    return label + (f" ({answer['probability']:.1%})" if "probability" in answer else "")


def _said_of_part(explanation: Explanation) -> str:
    return explanation.label or _NAMES[explanation.method]


def _numbers(answer: Prediction) -> str:
    values = answer.get("values") or {}
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items()) or "no label"


def explanation_blocks(explanation: Explanation, caption: str) -> list[Block]:
    """An explanation: each of its texts in colours, and behind a summary the weight of every word.

    Args:
      explanation: to be shown.
      caption: says which text it is, and what the model says of it.
    """
    by_size = sorted(explanation.words, key=lambda word: -abs(word.weight))
    rows = [(word.word, word.weight, word.start, "second" if word.in_pair else "first") for word in by_size]
    table = DataTable(("word", "weight", "character", "text"), rows)
    first, *others = coloured_texts(explanation)
    captions = [f"{caption}. {facts(explanation)}", *["the second text"] * len(others)]
    coloured = [text._replace(caption=of_text) for text, of_text in zip((first, *others), captions, strict=True)]
    return [*coloured, Details(f"{len(rows)} words and their weights", [table])]


def coloured_texts(explanation: Explanation) -> list[ColouredText]:
    """The text, and the second one of a pair, on one scale: the strongest word of both has a weight of 1 or -1."""
    largest = max((abs(word.weight) for word in explanation.words), default=0.0) or 1.0
    return [ColouredText(list(_parts(explanation, number, largest))) for number in range(len(explanation.texts))]


def _parts(explanation: Explanation, number: int, largest: float) -> Iterator[tuple[str, float]]:
    text, end = explanation.texts[number], 0
    for word in explanation.words:
        if word.in_pair == bool(number):
            if word.start > end:
                yield text[end : word.start], 0.0
            yield word.word, word.weight / largest
            end = word.start + len(word.word)
    if end < len(text):
        yield text[end:], 0.0


def facts(explanation: Explanation) -> str:
    """In a line: the method, what the weights add up to, how exactly, and what the network did not see."""
    name, of = _NAMES[explanation.method], explanation.explained
    if explanation.score is None:
        line = f"{name}: where attention comes from, for no label in particular{'' if of is None else f', at {of!r}'}"
    else:
        label = explanation.label if of is None else f"{explanation.label} of {of!r}"
        line = f"{name} for {label}: score {explanation.score:.4f}"
    if explanation.baseline_score is not None:
        line += (
            f", {explanation.baseline_score:.4f} with every word masked; the weights miss the difference by "
            f"{explanation.gap:.2g} ({explanation.steps} points)"
        )
    if explanation.cut_words and of is not None:
        line += f"; {explanation.cut_words} words are not in the window that the model read this in"
    elif explanation.cut_words:
        line += f"; the last {explanation.cut_words} words were cut, and the model did not read them"
    return line
