"""A caller of the library sees nothing of MLflow's normal events, and all that MLflow says of the caller's own."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.tracking.quiet_mlflow import quiet_mlflow

messages = logging.getLogger("mlflow.of_this_test")


@pytest.fixture(autouse=True)
def talkative(monkeypatch):
    """MLflow as a library's user has it, whatever tests before have set."""
    import mlflow  # noqa: F401 (it makes its handlers)

    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.INFO)
    monkeypatch.delenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", raising=False)
    yield
    logger.setLevel(before)


def test_a_new_database_and_a_run_say_nothing(in_folder, capfd):
    (in_folder / "run" / "charts").mkdir(parents=True)
    (in_folder / "run" / "charts" / "a.txt").write_text("a")
    tracker = MlflowTracker("quiet")
    tracker.connect()
    tracker.start("run", {"a": 1}, in_folder / "run")
    tracker.log_artifact(in_folder / "run" / "charts")
    tracker.finish("FINISHED")
    assert (in_folder / "mlflow.db").exists()
    assert capfd.readouterr() == ("", "")


def test_only_normal_events_of_this_thread_are_left_out(capfd):
    def say(text):
        messages.info(text)

    with quiet_mlflow():
        say("bertjax's own")
        with quiet_mlflow():
            pass
        say("bertjax's own")
        messages.warning("a warning")
        with ThreadPoolExecutor(1) as other:
            other.submit(say, "the user's thread").result()
    say("the user's own")
    shown = capfd.readouterr().err
    assert "bertjax's own" not in shown
    assert all(text in shown for text in ("a warning", "the user's thread", "the user's own"))


def test_progress_bars_are_the_users_choice(monkeypatch):
    from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR as SHOWN

    assert SHOWN.get()
    with quiet_mlflow():
        assert not SHOWN.get()
    monkeypatch.setenv(SHOWN.name, "true")
    with quiet_mlflow():
        assert SHOWN.get()
    assert os.environ[SHOWN.name] == "true"
