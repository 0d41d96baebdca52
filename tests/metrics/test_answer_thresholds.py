"""SQuAD 2.0's best thresholds: against every threshold, and in the unit of `predict --threshold`."""

import numpy as np
import pytest

from bertjax.metrics.answer_report import best_margin


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_no_threshold_is_better(seed, count):
    """Many margins are equal, some questions have no answer to give, and scores are fractions."""
    rng = np.random.default_rng(seed)
    margins = np.round(rng.normal(scale=3, size=count), seed % 3)
    margins[rng.random(count) < 0.15] = -np.inf
    given, none = rng.integers(0, 3, count) / 2, rng.integers(0, 2, count).astype(float)
    none[np.isinf(margins)] = given[np.isinf(margins)]

    def mean(threshold):
        return float(np.where(margins < threshold, none, given).mean())

    finite = margins[np.isfinite(margins)]
    best = max(map(mean, [np.inf, *finite.tolist()]))
    found = best_margin(margins, given, none)
    assert found.score == pytest.approx(best)
    assert mean(found.threshold) == pytest.approx(best)
    assert np.isfinite(found.threshold)
    assert not (finite == found.threshold).any()


@pytest.mark.parametrize(
    ("margins", "given", "none", "score", "kept"),
    [
        ([3.0, 1.0, -2.0], [1, 1, 1], [0, 0, 0], 1.0, 3),
        ([3.0, 1.0, -2.0], [0, 0, 0], [1, 1, 1], 1.0, 0),
        ([3.0, 1.0, -2.0], [1, 0, 0], [0, 1, 1], 1.0, 1),
        ([3.0, 1.0, -2.0], [0, 1, 1], [1, 0, 0], 2 / 3, 3),
        ([-np.inf, -np.inf], [1, 0], [1, 0], 0.5, 0),
    ],
    ids=["every answer", "no answer", "the surest", "the others", "none to give"],
)
def test_what_a_threshold_keeps(margins, given, none, score, kept):
    found = best_margin(np.array(margins), np.array(given), np.array(none))
    assert found.score == pytest.approx(score)
    assert (np.array(margins) >= found.threshold).sum() == kept


def official(na_probs, scores, has_answer):
    """`find_best_thresh` of evaluate-v2.0.py in its own terms, of distinct scores: the best sum over all prefixes."""
    current = best = sum(not has for has in has_answer)
    for i in sorted(range(len(na_probs)), key=lambda i: na_probs[i]):
        current += scores[i] if has_answer[i] else -1
        best = max(best, current)
    return best / len(scores)


@pytest.mark.parametrize("seed", range(10))
def test_the_official_scripts_score(seed):
    rng = np.random.default_rng(seed)
    margins, has_answer = rng.normal(size=50), rng.random(50) < 0.6
    overlap = rng.random(50) * has_answer
    found = best_margin(margins, overlap, (~has_answer).astype(float))
    assert found.score == pytest.approx(official((-margins).tolist(), overlap.tolist(), has_answer.tolist()))
