"""`bertjax compare` from the command line: processes, an MLflow store, a process that is killed, a second start."""

import contextlib
import json
import threading
import time

import psutil
import pytest

from bertjax.baselines.runners.frameworks import check_job
from bertjax.cli.main import main
from bertjax.errors import ConfigError
from bertjax.tasks import make_model
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Regularization
from tests.support.models import TINY
from tests.support.processes import complaint
from tests.support.tracking import runs_of


@pytest.fixture
def command(in_folder, tiny_model, reviews):
    table = ["--train", str(reviews), "--text-columns", "title", "body", "--label-column", "stars"]
    job = ["--model", str(tiny_model), "--max-length", "48", "--batch-size", "8", "--learning-rate", "1e-2"]
    return ["compare", *table, *job, "--epochs", "2", "--dropout", "off", "--out", "both"]


def kill_worker(framework, killed):
    """Waits for the process of a framework and kills it, as a machine without memory does."""
    while not killed:
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):  # one that has just ended
                if framework in child.cmdline():
                    child.kill()
                    killed.append(child.pid)
        time.sleep(0.02)


def test_resume_completes_a_comparison_after_a_killed_run(command, in_folder, capsys):
    killed: list[int] = []
    killer = threading.Thread(target=kill_worker, args=("torch", killed), daemon=True)
    killer.start()
    assert main([*command, "--seeds", "3"]) == 1
    killer.join()
    shown = capsys.readouterr()
    assert "torch, seed 3 failed: the process was killed; the machine may have run out of memory" in shown.err
    assert "--resume --out both with the same flags runs it again" in shown.err
    assert (in_folder / "both" / "jax-3" / "result.json").is_file()
    assert "torch, seed 3: the process was killed" in (in_folder / "both" / "report.html").read_text()
    first = (in_folder / "both" / "jax-3" / "result.json").stat().st_mtime_ns

    assert main([*command, "--seeds", "3", "--resume"]) == 0
    assert (in_folder / "both" / "jax-3" / "result.json").stat().st_mtime_ns == first  # was not run again
    metrics = json.loads((in_folder / "both" / "metrics.json").read_text())
    assert metrics["jax-torch/f1_macro_difference"] == 0.0
    assert metrics["jax-torch/agreement"] == 1.0
    assert "Without a result" not in (in_folder / "both" / "report.html").read_text()
    assert json.loads((in_folder / "both" / "jax-3" / "result.json").read_text())["metrics"]["test/accuracy"] >= 0.5

    client, runs = runs_of(in_folder)
    (parent,) = [run for run in runs if run.info.run_name == "both"]
    children = {run.info.run_name: run for run in runs if run.info.status == "FINISHED" and run is not parent}
    assert set(children) == {"jax-3", "torch-3"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"
    losses = {name: client.get_metric_history(run.info.run_id, "train/loss") for name, run in children.items()}
    assert [metric.step for metric in losses["jax-3"]] == list(range(1, 13))
    assert [metric.value for metric in losses["jax-3"]] == pytest.approx(
        [metric.value for metric in losses["torch-3"]], abs=1e-5
    )

    assert main([*command, "--seeds", "3"]) == 2
    assert "both already holds a run" in capsys.readouterr().err
    assert main([*command, "--seeds", "3", "--resume", "--epochs", "3"]) == 2
    assert "epochs was 2, now 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--frameworks", "jax", "tensorflow"], "framework 'tensorflow' is unknown; there are jax, torch, trainer"),
        (["--frameworks", "torch", "onnx"], "answers with the weights that jax has trained"),
        (["--frameworks", "jax", "jax"], "--frameworks names one twice"),
        (["--seeds", "1", "1"], "seeds must be distinct"),
        (["--pooling", "mean"], "PyTorch has no head for --pooling mean"),
        (["--lora-rank", "80"], "lora.rank 80 is above 16, the width of the layers"),
        (["--frameworks", "jax", "trainer", "--lora-rank", "8"], "the Trainer is run as it comes, without --lora-rank"),
        (["--mixout", "0.5"], "PyTorch is compared without --mixout, which transformers does not have; leave it out"),
        (["--optimizer", "lamb"], "the PyTorch loop has no optimizer.name 'lamb'"),
        (
            ["--frameworks", "jax", "trainer", "--freeze", "embeddings"],
            "the Trainer is run as it comes, without --freeze",
        ),
        (["--train", "none.csv"], "none.csv does not exist"),
        (["--dropout", "maybe"], "--dropout"),
    ],
)
def test_user_errors_are_one_line_and_write_nothing(command, in_folder, capsys, flags, message):
    assert main([*command, *flags]) == 2
    assert message in complaint(capsys.readouterr().err)
    assert list(in_folder.iterdir()) == []


def test_test_table_with_unknown_labels(command, in_folder, tmp_path_factory, capsys):
    other = tmp_path_factory.mktemp("other") / "test.csv"
    other.write_text("title,body,stars\nthe film,good,splendid\nthe plot,bad,bad\n")
    assert main([*command, "--test", str(other)]) == 2
    assert "'splendid'" in complaint(capsys.readouterr().err)
    assert list(in_folder.iterdir()) == []


@pytest.mark.parametrize(("package", "framework"), [("torch", "torch"), ("onnx", "onnx")])
def test_missing_package_names_the_extra(command, capsys, monkeypatch, package, framework):
    monkeypatch.setattr(
        "bertjax.baselines.runners.frameworks.find_spec", lambda name: None if name == package else object()
    )
    assert main([*command, "--frameworks", "jax", framework]) == 2
    assert (
        complaint(capsys.readouterr().err)
        == f"bertjax: framework '{framework}' needs {package}: pip install 'bertjax[{framework}]'"
    )


def test_onnx_allows_every_regularization():
    """ONNX Runtime predicts with the weights that JAX has trained, whatever the regularization was."""
    model = make_model(TINY, "classification", ("a", "b"))
    config = FineTuneConfig(regularization=Regularization(r_drop=1.0, mixout=0.5))
    check_job(("jax", "onnx"), config, model)
    with pytest.raises(ConfigError, match="PyTorch is compared without --r-drop"):
        check_job(("jax", "torch"), config, model)
