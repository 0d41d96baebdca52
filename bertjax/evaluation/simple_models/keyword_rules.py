"""Keyword rules: a file of the words and phrases that speak for each label.

computer-vision: [image, object detection]
natural-language-processing:
  - text
  - language model
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.data.rows.terms import Terms, tokens_of
from bertjax.errors import ConfigError, first_line
from bertjax.evaluation.simple_models.simple_model import Problem, log_probabilities


def keyword_scores(problem: Problem) -> np.ndarray:
    """The scores of the test rows. The class of the most distinct terms in a text is the answer, as probable as the
    rules are right where they speak in the training rows, the others sharing the rest; where no term speaks, or two
    classes as loudly, it is the share of each class in the training rows."""
    assert problem.settings.keywords is not None, "checked with the settings"
    terms = Terms(read_keywords(problem.settings.keywords, problem.names))
    index = {name: i for i, name in enumerate(problem.names)}

    def answers(texts: Sequence[str]) -> np.ndarray:
        """[N] the class of each text, -1 where the rules say nothing."""
        votes = map(terms.vote, texts)
        return np.array([-1 if vote is None else index[vote] for vote in votes], np.int64)

    train, test = answers(problem.train.rows.texts), answers(problem.test.rows.texts)
    speaks, classes = train >= 0, problem.num_classes
    right = float((train == problem.labels)[speaks].mean()) if speaks.any() else 0.0
    of_answer = max(right, 1 / classes + 0.01)  # the answer stays the most probable class
    by_class = np.full((classes, classes), (1 - of_answer) / (classes - 1))
    np.fill_diagonal(by_class, of_answer)
    counts = np.bincount(problem.labels, minlength=classes)
    return log_probabilities(np.where(test[:, None] >= 0, by_class[test], counts / counts.sum()))


def read_keywords(path: str, names: Sequence[str]) -> dict[str, str]:
    """Term -> its label.

    Args:
      path: of the YAML file: a list of terms, or a single one, for each label.
      names: of the labels that there are.

    Raises:
      ConfigError: the file cannot be read, or has a mistake; with its line.
    """
    import yaml

    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; --keywords names a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path} line {mark.line + 1}" if mark else path
        raise ConfigError(f"{where}: no YAML: {getattr(error, 'problem', None) or first_line(error)}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path} must hold a label with its words in each line, such as `spam: [win, free money]`")
    labels: dict[str, str] = {}
    known: dict[tuple[str, ...], str] = {}
    for label, nodes in ((key.value, _items(node)) for key, node in root.value):
        line = _line(path, nodes[0])
        if label not in names:
            raise ConfigError(f"{line}: the label {label!r} is unknown; there are {', '.join(map(repr, names))}")
        for node in nodes:
            line, term = _line(path, node), node.value
            tokens = tokens_of(term) if isinstance(term, str) else ()
            if not tokens:
                raise ConfigError(f"{line}: {label!r} must have words or phrases, each a text with a letter or a sign")
            if known.setdefault(tokens, label) != label:
                raise ConfigError(f"{line}: {term!r} speaks for {label!r} and for {known[tokens]!r}; leave one")
            labels[term] = label
    return labels


def _items(node: Any) -> list[Any]:
    """The items of a list; what is none, or has none, is its own item."""
    return node.value if node.tag.endswith(":seq") and node.value else [node]


def _line(path: str, node: Any) -> str:
    return f"{path} line {node.start_mark.line + 1}"
