"""Every number on a command line is accepted or refused in one line; a seed is no other seed's equal."""

import math
import re
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import jax
import numpy as np
import pytest

from bertjax import FineTuneConfig
from bertjax.cli import compare, evaluate, experiment, export, fetch, finetune, parity, pretrain, sweep, sync
from bertjax.cli.flags.job_flags import _flags_of, parse_job
from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.main import main, run
from bertjax.data.table import Table
from bertjax.errors import ConfigError
from bertjax.settings import Range, flatten, override, ranges_of
from bertjax.sweeps.search_space import Choice
from bertjax.sweeps.sweep_config import Sweep

# Dataclasses whose numbers are flags of a command, or settings of a sweep's file.
JOBS = {
    "finetune": finetune.RunFlags,
    "pretrain": pretrain.PretrainFlags,
    "compare": compare.CompareFlags,
}
COMMANDS = {
    "sweep": sweep.Arguments, "evaluate": evaluate.Arguments, "parity": parity.Arguments, "export": export.Arguments,
    "experiment": experiment.ExperimentFlags, "fetch": fetch.Arguments, "sync": sync.Arguments,
}  # fmt: skip
VALUES = ["99999999999999999999", "-1", "nan", "-inf", "0", "1e400"]
REQUIRED = {
    "evaluate": ["--model", "m", "--data", "d"], "export": ["--model", "m", "--out", "o"], "pretrain": ["--train", "t"],
}  # fmt: skip


def numeric(kind):
    """The flags of a dataclass that take a number or several."""
    return [flag for flag in _flags_of(kind) if re.search(r"\b(int|float)\b", str(flag.type).replace("'float", ""))
            and "Literal" not in str(flag.type)]  # fmt: skip


def cases():
    for flag in numeric(FineTuneConfig):
        yield "finetune", flag.name
    for command, kind in (JOBS | COMMANDS).items():
        for flag in numeric(kind):
            yield command, flag.name


def read(command, words):
    """Reads a command line as the command does, and does nothing with it."""
    words = [*REQUIRED.get(command, []), *words]
    if command in JOBS:
        changes = {"pretrain": pretrain._CHANGES, "compare": {"seed": {"text": None}}}.get(command)
        return parse_job(JOBS[command], words, f"bertjax {command}", changes)
    return parse(COMMANDS[command], words, f"bertjax {command}")


@pytest.mark.parametrize(("command", "flag"), list(cases()), ids=str)
def test_every_number(capsys, command, flag):
    for value in VALUES:
        status = run(lambda value=value: 0 if read(command, [f"--{flag}", value]) else 1)
        lines = capsys.readouterr().err.splitlines()
        if status == 0:
            assert lines == []
            assert math.isfinite(float(value))
        else:
            assert status == 2
            (line,) = lines
            assert len(line) < 400
            assert line.startswith("bertjax: ")
            assert flag in re.sub("[_.]", "-", line)  # or the setting's dotted path


def test_more_digits_than_python_reads(capsys):
    for flag in ("--seed", "--epochs", "--seeds", "--learning-rate"):
        assert main(["finetune", flag, "9" * 5000]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("bertjax: ")


def test_every_number_of_a_setting_has_a_range():
    """A new numeric setting names its range, or stands here with the reason why it needs none."""

    def without(kind, hints):
        for item in fields(kind):
            if is_dataclass(hints[item.name]):
                yield from without(hints[item.name], get_type_hints(hints[item.name]))
            elif item.name not in ranges_of(kind) and re.search(r"\b(int|float)\b", str(hints[item.name])):
                yield item.name

    kinds = [FineTuneConfig, *JOBS.values(), *COMMANDS.values(), Sweep]
    found = {name for kind in kinds for name in without(kind, get_type_hints(kind))}
    assert found == {"resources"}  # amounts by Ray's names; Ray says what it has


SWEEP = {"base": FineTuneConfig(data=Table(validation_size=0.2)), "space": {"epochs": Choice((1, 2))}}


@pytest.mark.parametrize("name", sorted(ranges_of(Sweep)))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -2, 10**30])
def test_a_sweep_takes_no_such_number(name, value):
    is_float = "float" in str(get_type_hints(Sweep)[name])
    if is_float and value == 10**30:
        return
    with pytest.raises(ConfigError, match=f"^(seed|{name})"):
        Sweep(**SWEEP, **{name: (value,) if name == "seeds" else value})


@pytest.mark.parametrize("path", [flag.path for flag in numeric(FineTuneConfig)])
def test_nan_in_a_space_is_refused(path):
    default = flatten(FineTuneConfig())[path]
    with pytest.raises(ConfigError):
        Sweep(**SWEEP | {"space": {path: Choice((default, math.nan))}})
    with pytest.raises(ConfigError):
        override(FineTuneConfig(), {path: math.inf})


def test_seeds_are_distinct():
    """A seed above the range would be another one's equal to JAX, and an error to NumPy's older generators."""
    last = ranges_of(FineTuneConfig)["seed"].high
    keys = {tuple(np.asarray(jax.random.PRNGKey(int(seed)))) for seed in (0, 1, 2**31, last - 1, last)}
    assert len(keys) == 5
    assert (jax.random.PRNGKey(last + 1) == jax.random.PRNGKey(0)).all()
    np.random.RandomState(last)
    with pytest.raises(ConfigError, match=f"seed must be {last} or less, got {last + 1}"):
        FineTuneConfig(seed=last + 1)


@pytest.mark.parametrize(
    ("numbers", "inside", "outside"),
    [
        (Range(1), [1, 2, 1e300, 10**400], [0, -1, 0.5, math.nan, math.inf]),
        (Range(0, open_low=True), [1e-300, 5], [0, -0.0, math.nan, math.inf]),
        (Range(0, 1), [0, 1, 0.5], [-1e-9, 1 + 1e-9, math.nan]),
        (Range(0, 1, open_high=True), [0, 0.999], [1, math.nan, -math.inf]),
    ],
)
def test_ranges(numbers, inside, outside):
    assert all(value in numbers for value in inside)
    assert not any(value in numbers for value in outside)


def test_the_help_names_the_ranges(capsys):
    with pytest.raises(SystemExit):
        main(["finetune", "--help-all"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Passes over the training rows. (1 or more)" in text
    assert "(0 to 4294967295)" in text
    assert "Final learning rate of linear, cosine and polynomial, as a share of the peak. (in [0, 1])" in text


HUGE = {
    "seed": (["--seed", "99999999999999999999"], "seed must be 4294967295 or less"),
    "split seed": (["--split-seed", "4294967296"], "split_seed must be 4294967295 or less"),
    "held-out rows": (["--test-size", "1e18"], "holding out 1000000000000000000 of 60 rows leaves a side"),
    "half a row": (["--test-size", "1.5"], "test_size is a share of the rows, in (0, 1), or a whole number of them"),
    "rows, not a number": (["--validation-size", "nan"], "validation_size must be a finite number, got nan"),
    "folds": (["--split", "kfold", "--folds", "2147483647"], "2147483647"),
    "length": (["--max-length", "2147483647"], "is above the "),
    "epochs": (["--epochs", "2147483647"], "steps"),
    "warmup": (["--warmup", "2147483647"], "warmup takes 2147483647 of the"),
    "stacked seeds": (["--seeds", "0", "4294967296"], "seeds must be 4294967295 or less"),
    "workers": (["--num-workers", "99999999999999999999"], "num_workers must be 2147483647 or less"),
}


@pytest.mark.parametrize(("flags", "message"), HUGE.values(), ids=HUGE)
def test_a_run_with_a_huge_number(in_folder, tiny_model, reviews, capsys, flags, message):
    words = ["--model", str(tiny_model), "--train", str(reviews), "--text-columns", "title", "body", "--label-column"]
    words += ["stars", "--max-length", "16"]
    assert main(["finetune", *words, *flags, "--out", "out"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("bertjax: ")
    assert message in line
    assert not (in_folder / "out").exists()
