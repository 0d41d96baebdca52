"""What a sweep's folder tells: whether it is running, and its settings on scales of numbers."""

import numpy as np

from bertjax.cli.main import main
from bertjax.data.table import Table
from bertjax.sweeps.ledger import Ledger
from bertjax.sweeps.results.sweep_results import encoded
from bertjax.sweeps.search_space import Grid
from bertjax.sweeps.sweep_config import Sweep
from bertjax.training.settings.finetune_config import FineTuneConfig
from tests.support.processes import holding


def test_show_tells_a_sweep_that_was_stopped_from_one_that_runs(tmp_path, capsys):
    folder = tmp_path / "sweep"
    ledger = Ledger(folder)
    base = FineTuneConfig(data=Table("trec", validation_size=0.1))
    ledger.open(Sweep(base, {"optimizer.learning_rate": Grid([1e-5, 1e-4])}))
    values = {"optimizer.learning_rate": 1e-5}
    ledger.record(0, drawn=values, values=values)

    def shown() -> str:
        assert main(["sweep", "--show", str(folder)]) == 0
        return " ".join(capsys.readouterr().out.split())

    with holding(folder):
        assert "1 running" in shown()
        assert "--resume" not in shown()
    assert f"the sweep was stopped and nothing runs; --resume {folder} continues it" in shown()
    ledger.record(0, status="finished")
    assert "--resume" not in shown()


def test_numbers_over_orders_of_magnitude_are_logarithms():
    np.testing.assert_allclose(encoded([1e-5, 1e-3]), [-5, -3])
    np.testing.assert_allclose(encoded([8, 16]), [8, 16])


def test_what_is_no_number_has_its_place_and_what_was_not_active_is_below():
    assert encoded(["mean", "cls", None, "mean"]).tolist() == [1, 0, -1, 1]
    assert encoded([(), ("embeddings",)]).tolist() == [1, 0]
    assert encoded([True, False]).tolist() == [1, 0]
    assert encoded([None, 2, 4]).tolist() == [0, 2, 4]
