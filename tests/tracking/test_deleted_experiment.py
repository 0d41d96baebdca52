"""A run that MLflow would not take ends before its data is read, with the command that mends it."""

import re
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bertjax import FineTuneConfig
from bertjax.baselines.compare.comparison import compare
from bertjax.cli.main import main
from bertjax.data.table import Table
from bertjax.errors import ConfigError
from bertjax.sweeps.driver import run_sweep
from bertjax.sweeps.search_space import Choice
from bertjax.sweeps.sweep_config import Sweep
from bertjax.training.multi.multi_seed import finetune_seeds
from bertjax.training.multi.ray_workers import finetune_on_workers
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.options import Workers

# A table that cannot be read: whatever reads it first fails otherwise.
CONFIG = FineTuneConfig(data=Table("no-such-table.csv", validation_size=0.2), experiment="old")


def sweep(config, out):
    return run_sweep(Sweep(config, {"epochs": Choice((1, 2))}), out)


JOBS = {
    "finetune": finetune,
    "seeds": partial(finetune_seeds, seeds=(0, 1)),
    "workers": partial(finetune_on_workers, workers=Workers(num_workers=2)),
    "compare": partial(compare, frameworks=("jax",), seeds=(0,)),
    "sweep": sweep,
}


@pytest.fixture
def client(in_store):
    return MlflowClient(f"sqlite:///{in_store}/mlflow.db")


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_a_deleted_experiment(client, in_store, job):
    identifier = client.create_experiment("old")
    client.delete_experiment(identifier)
    with pytest.raises(ConfigError) as caught:
        job(CONFIG, out=Path("out"))
    assert str(caught.value) == (
        f"MLflow's experiment 'old' was deleted; `mlflow experiments restore --experiment-id {identifier}` brings it "
        f"back, or give another --experiment"
    )
    assert [path.name for path in in_store.iterdir()] == ["mlflow.db"]


def test_on_the_command_line(client, in_store, capsys):
    client.delete_experiment(client.create_experiment("old"))
    assert main(["finetune", "--train", "no.csv", "--experiment", "old"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"bertjax: MLflow's experiment 'old' was deleted; `mlflow experiments restore .*", line)


def test_nothing_is_made_for_a_check(in_folder):
    with pytest.raises(Exception, match="no-such-table"):
        finetune(CONFIG, "out")
    assert list(in_folder.iterdir()) == []


@pytest.mark.parametrize("deleted", ["run", "experiment"])
def test_a_run_to_continue_that_was_deleted(client, in_store, deleted, tiny_model, reviews):
    table = Table(str(reviews), text=("title", "body"), label="stars")
    config = FineTuneConfig(str(tiny_model), table, epochs=1, max_length=8, experiment="old")
    run_id = finetune(config, "out").run_id
    experiment_id = client.get_run(run_id).info.experiment_id
    if deleted == "run":
        client.delete_run(run_id)
        remedy = f"mlflow runs restore --run-id {run_id}"
    else:
        client.delete_experiment(experiment_id)
        remedy = f"mlflow experiments restore --experiment-id {experiment_id}"
    with pytest.raises(ConfigError, match=f"was deleted; `{remedy}` brings it back"):
        finetune(config, "out", if_exists="resume_changed")


NAMES = {
    "experiment, empty": ({"experiment": ""}, "experiment is the name of an MLflow experiment, got ''"),
    "experiment, long": ({"experiment": "e" * 501}, "experiment has at most 500 characters, got "),
    "register, empty": ({"register": " "}, "register is a name without"),
    "register, a path": ({"register": ".."}, "register is a name without"),
    "register, long": ({"register": "m" * 257}, "register has at most 256 characters, got "),
}


@pytest.mark.parametrize(("settings", "message"), NAMES.values(), ids=NAMES)
def test_names_that_mlflow_refuses(settings, message):
    with pytest.raises(ConfigError, match=message):
        FineTuneConfig(**settings)
