"""Runs that are interrupted at random steps and resumed, against one that is not: everything they leave is the same.

A tiny model is fine-tuned in real processes, tracked by a real MLflow. Each run is interrupted by SIGTERM or SIGKILL
after a random step, or by SIGKILL while a checkpoint is being written, then resumed with the same flags, until it ends.
Then the model's weights, `metrics.json` and the history of every metric in MLflow are compared bit by bit; of what
measures time, only the steps are.

    python scripts/interrupt_runs.py                                   # 20 runs, one interruption each
    python scripts/interrupt_runs.py --runs 1 --interruptions 4        # one run, interrupted four times
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

KINDS = ("SIGTERM", "SIGKILL", "SIGKILL while saving")
STEPS_PER_EPOCH, EPOCHS = 6, 6
LAST_STEP = STEPS_PER_EPOCH * EPOCHS
SAVE_EVERY = 2
SEEDED_DELAY_MS = 12  # a save of the tiny model takes about as long
MACHINE = "system/"  # metrics of the machine, sampled by the clock
TIMES = ("seconds", "second", "seconds_to_first_step", "data_wait_share", "peak_share")  # how the names of times end


class Interruption(NamedTuple):
    """What happens to a process.

    Attributes:
      kind: one of `KINDS`.
      step: after which it happens; while checkpointing: the earliest checkpoint that is interrupted.
      delay: seconds after a save has begun.
    """

    kind: str
    step: int
    delay: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="runs to compare with the whole one")
    parser.add_argument("--interruptions", type=int, default=1, help="of each run, at rising steps")
    parser.add_argument("--seed", type=int, default=0, help="of the steps and kinds")
    parser.add_argument("--folder", type=Path, help="where runs are written; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        signal_name, step, *command = arguments.child
        return interrupted_command(signal_name, int(step), command)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        results = compare_runs(folder, arguments.runs, arguments.interruptions, arguments.seed)
    same = sum(not result["differences"] for result in results)
    print(f"{same} of {len(results)} runs are the same to the bit as the one that was not interrupted")
    if arguments.json:
        arguments.json.write_text(json.dumps({"runs": results, "same": same}, indent=2) + "\n", encoding="utf-8")
    return 0 if same == len(results) else 1


def compare_runs(folder: Path, runs: int, interruptions: int, seed: int) -> list[dict[str, Any]]:
    """Makes the whole run and the interrupted ones, and says how they differ."""
    rng = random.Random(seed)
    flags = make_inputs(folder)
    process = start(folder, "whole", flags)
    if process.wait() != 0:
        raise SystemExit("the run without interruptions failed")
    whole = outcome(folder, "whole")
    results = []
    for i in range(runs):
        name = f"run-{i}"
        steps = sorted(rng.sample(range(1, LAST_STEP), interruptions))
        plan = [
            Interruption(KINDS[(i * interruptions + n) % len(KINDS)], step, rng.random() * SEEDED_DELAY_MS / 1000)
            for n, step in enumerate(steps)
        ]
        happened = []
        for interruption in plan:
            process = start(folder, name, flags, interruption)
            happened.append(interrupt(process, folder / name / "checkpoints", interruption))
        if start(folder, name, flags).wait() != 0:
            raise SystemExit(f"{name} could not be resumed after {happened}")
        differences = compare(whole, outcome(folder, name))
        results.append({"run": name, "interruptions": happened, "differences": differences})
        print(f"{name}: {'; '.join(happened)}: {'; '.join(differences) or 'the same'}", flush=True)
    return results


def make_inputs(folder: Path) -> list[str]:
    """A tiny model and a table in the folder; returns the flags that train the one on the other."""
    import jax
    from transformers import BertTokenizer

    from bertjax import BertConfig, make_model, save_pretrained

    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "good",
        "bad",
        "dull",
        "great",
        "film",
        "book",
        "plot",
        "song",
    ]
    words += ["a", "the", "what", "was", "it", "so", "very", "and"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64,
        max_position_embeddings=32,
    )  # fmt: skip
    model = make_model(config, "encoder")
    params = model.init(jax.random.PRNGKey(0))
    save_pretrained(folder / "tiny", model, params, BertTokenizer(str(folder / "vocab.txt")))
    rows = [
        f"{opening} {subject} was {adjective},{'good' if adjective in ('good', 'great') else 'bad'}"
        for opening in ("the", "a very", "what a", "so the")
        for subject in ("film", "book", "plot", "song")
        for adjective in ("good", "great", "bad", "dull")
    ]
    (folder / "train.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return [
        "--model", str(folder / "tiny"), "--train", str(folder / "train.csv"),
        "--validation", str(folder / "train.csv"), "--leaks", "report",
        "--text-columns", "text", "--label-column", "label", "--max-length", "32",
        "--epochs", str(EPOCHS), "--batch-size", "9", "--learning-rate", "3e-3", "--evaluate-every", "5",
        "--evaluate-unit", "steps", "--save-every", str(SAVE_EVERY), "--save-unit", "steps",
        "--final-weights", "best",
    ]  # fmt: skip


def start(
    folder: Path, name: str, flags: Sequence[str], interruption: Interruption | None = None
) -> "subprocess.Popen[bytes]":
    """A process that trains the run, from its last checkpoint if it has one; it writes into a log beside the run."""
    command = ["finetune", *flags, "--out", str(folder / name)]
    if (folder / name / "config.json").is_file():
        command.append("--resume")
    if interruption is not None and interruption.kind != KINDS[2]:
        words = [sys.executable, __file__, "--child", interruption.kind, str(interruption.step), *command]
    else:
        words = [sys.executable, "-m", "bertjax", *command]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log)


def interrupt(process: "subprocess.Popen[bytes]", checkpoints: Path, interruption: Interruption) -> str:
    """Waits until the process has been interrupted; returns what happened."""
    if interruption.kind == KINDS[2]:
        while process.poll() is None and not half_written(checkpoints, interruption.step):
            time.sleep(0.0002)
        time.sleep(interruption.delay)
        process.send_signal(signal.SIGKILL)
    status = process.wait()
    left = half_written(checkpoints, 0)
    wanted = 0 if interruption.kind == "SIGTERM" else -signal.SIGKILL
    if status != wanted:
        raise SystemExit(f"{checkpoints.parent.name}: {interruption.kind} gave status {status}, not {wanted}")
    newest = max((int(path.name) for path in checkpoints.glob("*") if path.name.isdecimal()), default=0)
    note = f", checkpoint {left[0].split('.')[0]} half written" if left else ""
    return f"{interruption.kind} at step {interruption.step}, resumed from {newest}{note}"


def half_written(checkpoints: Path, from_step: int) -> list[str]:
    """Names of the checkpoints that are being written, or that a killed process left so."""
    try:
        names = [path.name for path in checkpoints.iterdir()]
    except FileNotFoundError:
        return []
    return [name for name in names if "tmp" in name and int(name.split(".")[0]) >= from_step]


def interrupted_command(signal_name: str, at_step: int, command: Sequence[str]) -> int:
    """Runs a command line that signals itself after a step of the run, wherever it starts from."""
    from bertjax.cli import finetune
    from bertjax.cli.main import main as bertjax_main
    from bertjax.training.step.compiled_step import CompiledTrainStep

    class SignallingStop(finetune.StopSignal):
        """Asked after each step."""

        def __call__(self) -> bool:
            if loop_step[0] >= at_step:
                os.kill(os.getpid(), getattr(signal, signal_name))
            return super().__call__()

    loop_step = [0]
    train = CompiledTrainStep.__call__

    def counted(engine: Any, state: Any, batch: Any) -> Any:
        loop_step[0] = int(state.step) + 1
        return train(engine, state, batch)

    CompiledTrainStep.__call__ = counted  # type: ignore[method-assign, assignment]
    finetune.StopSignal = SignallingStop  # type: ignore[misc]
    return bertjax_main(list(command))


def outcome(folder: Path, name: str) -> dict[str, Any]:
    """All that a finished run left: the weights, the metrics, and the history of each metric in MLflow."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("bertjax")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    history = {
        f"{number} {key}": [
            (point.step, None if measures_time(key) else point.value.hex())
            for point in client.get_metric_history(run.info.run_id, key)
        ]
        for number, run in enumerate(runs)
        for key in run.data.metrics
        if not key.startswith(MACHINE)
    }
    metrics = json.loads((folder / name / "metrics.json").read_text(encoding="utf-8"))
    return {
        "weights": (folder / name / "model" / "model.safetensors").read_bytes(),
        "metrics.json": {key: None if measures_time(key) else value for key, value in metrics.items()},
        "MLflow runs": [run.info.status for run in runs],
        "MLflow history": history,
    }


def measures_time(key: str) -> bool:
    """Whether a metric is another one each time."""
    return key.endswith(TIMES)


def compare(whole: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What differs, in words."""
    differences = [name for name in ("weights", "MLflow runs") if whole[name] != other[name]]
    for name in ("metrics.json", "MLflow history"):
        keys = sorted({*whole[name], *other[name]})
        differences += [f"{name} {key}" for key in keys if whole[name].get(key, ()) != other[name].get(key, ())]
    return differences


if __name__ == "__main__":
    sys.exit(main())
