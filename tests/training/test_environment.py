"""What a run says of where it happened."""

import subprocess

import jax
import pytest

from bertjax.training.run import environment
from bertjax.training.run.environment import describe_environment


@pytest.fixture
def git(in_folder):
    """Runs git in the current folder, which is a repository with one commit."""

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    (in_folder / "experiment.py").write_text("x = 1\n")
    git("add", "experiment.py")
    git("commit", "--quiet", "--message", "first")
    return git


def test_the_commit_and_whether_it_is_what_runs(git, in_folder):
    assert describe_environment()["git_commit"] == git("rev-parse", "HEAD")
    assert describe_environment()["git_dirty"] == "false"
    (in_folder / "experiment.py").write_text("x = 2\n")
    assert describe_environment()["git_dirty"] == "true"


def test_where_there_is_no_repository(in_folder, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(in_folder.parent))
    facts = describe_environment()
    assert "git_commit" not in facts
    assert facts["jax"] == jax.__version__
    assert (facts["device_kind"], facts["device_count"]) == ("cpu", "2")
    monkeypatch.setenv("PATH", "")
    assert describe_environment() == facts


def test_a_package_that_is_not_there_is_left_out(monkeypatch):
    """A run that records nothing in MLflow needs neither it nor Ray."""
    monkeypatch.setattr(environment, "_PACKAGES", ("jax", "surely-no-package"))
    assert environment.package_versions() == {"jax": jax.__version__}
