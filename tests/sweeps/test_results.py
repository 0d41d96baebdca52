"""Settings on scales of numbers, for pictures and importances."""

import numpy as np

from bertjax.sweeps.results.sweep_results import encoded


def test_numbers_over_orders_of_magnitude_are_logarithms():
    np.testing.assert_allclose(encoded([1e-5, 1e-3]), [-5, -3])
    np.testing.assert_allclose(encoded([8, 16]), [8, 16])


def test_what_is_no_number_has_its_place_and_what_was_not_active_is_below():
    assert encoded(["mean", "cls", None, "mean"]).tolist() == [1, 0, -1, 1]
    assert encoded([(), ("embeddings",)]).tolist() == [1, 0]
    assert encoded([True, False]).tolist() == [1, 0]
    assert encoded([None, 2, 4]).tolist() == [0, 2, 4]
