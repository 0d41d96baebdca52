"""A run in folders whose names libraries would read as patterns or addresses: trained, stopped, resumed, evaluated."""

import json
import shutil

from bertjax.cli.main import main
from bertjax.inference.predictor import Predictor
from bertjax.pretrained.files import read_tensors

ODD = "a%20b [final] #1?\\x"


def test_a_run_from_end_to_end(tmp_path, monkeypatch, database, tiny_model, reviews, capsys):
    here = tmp_path / ODD
    here.mkdir()
    shutil.copy(database, here / "mlflow.db")
    shutil.copytree(tiny_model, here / "m*del")
    shutil.copy(reviews, here / "[rows].csv")
    monkeypatch.chdir(here)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def command(model, train, out):
        return [
            "finetune", "--model", model, "--train", train, "--text-columns", "title", "body",
            "--label-column", "stars",
            "--batch-size", "8", "--epochs", "3", "--max-length", "20", "--learning-rate", "3e-2",
            "--best-metric", "epoch/train_loss", "--final-weights", "best", "--out", out,
        ]  # fmt: skip

    assert main(command("m*del", "[rows].csv", "r/bert [final]")) == 0
    assert main(command(str(tiny_model), str(reviews), str(tmp_path / "plain"))) == 0
    runs = [here / "r" / "bert [final]", tmp_path / "plain"]
    odd, plain = (json.loads((run / "metrics.json").read_text()) for run in runs)
    for name in ("train/loss", "train/model_step", "test/accuracy"):
        assert odd[name] == plain[name]
    models = [read_tensors(run / "model") for run in runs]
    assert all((models[0][name] == models[1][name]).all() for name in models[1])

    (runs[0] / "metrics.json").unlink()  # killed before its last line
    shutil.rmtree(runs[0] / "model")
    assert main([*command("m*del", "[rows].csv", "r/bert [final]"), "--resume"]) == 0
    assert json.loads((runs[0] / "metrics.json").read_text())["test/accuracy"] == plain["test/accuracy"]
    assert len(Predictor.load("r/bert [final]/model")(["the song good"])) == 1
    output = capsys.readouterr()
    assert "the model has the last weights" not in output.err
    assert "could not be saved" not in output.err
    assert "did not take all" not in output.err
    assert sorted(path.name for path in here.iterdir()) == ["[rows].csv", "m*del", "mlflow.db", "mlruns", "r"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([ODD, "plain"])
