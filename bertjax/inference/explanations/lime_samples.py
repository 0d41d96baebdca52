"""LIME (Ribeiro et al. 2016, arXiv:1602.04938): a linear model of what hiding random words does to a score.

The package lime samples and fits; the words and the scores are ours. It gets the words' numbers for a text, so what is
a word is settled in one place, and its own pages (1.2 MB a text) are never made.
"""

import numpy as np

from bertjax.errors import ConfigError
from bertjax.inference.explanations.hidden_words import ScoresOfHidden


def fit_lime(scores: ScoresOfHidden, num_words: int, samples: int, seed: int) -> tuple[float, np.ndarray]:
    """The score of a text, and the weight of each of its words in the linear model, [W] float64.

    Args:
      scores: of texts with hidden words.
      num_words: W.
      samples: texts, the whole one among them.
      seed: of the random words.

    Raises:
      ConfigError: lime is not installed.
    """
    check_lime()
    from lime.lime_text import LimeTextExplainer

    if not num_words:  # lime has no text without words
        return float(scores(np.zeros((1, 0), bool))[0]), np.zeros(0)
    computed: list[float] = []

    def of_texts(texts: list[str]) -> np.ndarray:
        hidden = np.ones((len(texts), num_words), bool)
        for row, text in zip(hidden, texts, strict=True):
            row[list(map(int, text.split()))] = False
        computed.extend(scores(hidden).tolist())
        return np.array(computed)[:, None]

    explainer = LimeTextExplainer(split_expression=r"\s+", feature_selection="none", random_state=seed)
    numbers = " ".join(map(str, range(num_words)))
    fitted = explainer.explain_instance(numbers, of_texts, labels=(0,), num_samples=samples)
    weights = np.zeros(num_words)
    for word, weight in fitted.as_map()[0]:
        weights[word] = weight
    return computed[0], weights


def check_lime() -> None:
    """Raises a `ConfigError` where lime is not installed."""
    try:
        import lime.lime_text  # noqa: F401
    except ImportError:
        raise ConfigError(
            "method lime needs the package of that name: pip install 'bertjax[analysis]', or take "
            "integrated_gradients, occlusion or rollout"
        ) from None
