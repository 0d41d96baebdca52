"""Class balance: weights of classes, and rows that are repeated."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from bertjax.data.split.class_balance import oversampled, parse_class_weights
from bertjax.errors import ConfigError

LABELS = st.lists(st.sampled_from("abcd"), min_size=2, max_size=60)


@given(LABELS)
def test_balanced_weights_are_those_of_scikit_learn(labels):
    classes = sorted(set(labels))
    expected = compute_class_weight("balanced", classes=np.array(classes), y=np.array(labels))
    weights = parse_class_weights(["balanced"], {label: labels.count(label) for label in classes})
    assert list(weights.values()) == pytest.approx(expected.tolist())


def test_named_weights_leave_the_others_at_1():
    assert parse_class_weights(["b=2.5", "x=y=3"], {"a": 1, "b": 1, "x=y": 1}) == {"a": 1.0, "b": 2.5, "x=y": 3.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["blanced"], "'blanced' is neither 'balanced' alone nor label=weight"),
        (["balanced", "a=2"], "'balanced' is neither"),
        (["c=2"], "'c' is no class; there are a, b"),
        (["a=2", "a=3"], "'a' is named twice"),
        (["a=heavy"], "'a=heavy' needs a positive number"),
        (["a=-1"], "needs a positive number"),
        (["a=nan"], "needs a positive number"),
        (["a=inf"], "needs a positive number"),
    ],
)
def test_class_weights_that_are_errors(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse_class_weights(settings, {"a": 1, "b": 1})


@given(LABELS, st.integers(0, 5))
def test_oversampling_evens_the_classes_and_loses_no_row(labels, seed):
    indices = oversampled(labels, seed).tolist()
    most = max(Counter(labels).values())
    assert set(Counter(labels[i] for i in indices).values()) == {most}
    assert indices[: len(labels)] == list(range(len(labels)))
    times = Counter(indices)
    for label in set(labels):
        of_class = [times[i] for i, other in enumerate(labels) if other == label]
        assert max(of_class) - min(of_class) <= 1
    assert indices == oversampled(labels, seed).tolist()
