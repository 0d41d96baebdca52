"""What saving behind training costs: the default fine-tuning with and without a save, taking turns.

Two blocks of steps alternate, the second begins with a save that is written while its steps run. What it takes longer,
over the time of an epoch, is the cost of saving once an epoch, as `finetune` does.

    python scripts/benchmark_checkpoints.py --rounds 7 --steps 10
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import jax

from bertjax import FineTuneConfig, make_optimizer, make_train_step
from bertjax.cli.process.process_setup import prepare_process
from bertjax.devices.data_parallel import AXIS, all_devices
from bertjax.training.checkpoint.checkpoints import Checkpoints
from bertjax.training.run.prepare import prepare
from bertjax.training.run.prepared_run import loss_of
from bertjax.training.step.compiled_step import CompiledTrainStep


def measure(rounds: int, steps: int) -> dict[str, float | int | list[float]]:
    """Takes turns; returns the cost of a save in seconds and as a share of an epoch, of each turn and the median."""
    config = FineTuneConfig().resolved()
    devices = all_devices(config.engine)
    prepared = prepare(config, devices.count)
    plan = prepared.train.plan
    optimizer = make_optimizer(config.optimizer, plan.total_steps, prepared.model)
    step = make_train_step(prepared.model, optimizer, loss_of(config), axis_name=AXIS)
    state = devices.place(step.init(prepared.params, jax.random.PRNGKey(config.seed)))
    engine = CompiledTrainStep(devices, prepared.model, step, state, plan.empty_batches)
    engine.wait()
    batches = prepared.train.batches()

    def block(checkpoints: Checkpoints | None) -> float:
        nonlocal state
        started = time.perf_counter()
        if checkpoints is not None:
            checkpoints.save(state, {})
        for _, packed_batch in zip(range(steps), batches, strict=False):
            state, _ = engine(state, packed_batch.batch)
        jax.block_until_ready(state)
        if checkpoints is not None:
            checkpoints.wait()
        return time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder), {}) as checkpoints:
        block(checkpoints)  # warms threads, allocators and the disk
        turns = [(block(None), block(checkpoints)) for _ in range(rounds)]
    engine.close()
    step_seconds = statistics.median(without for without, _ in turns) / steps
    epoch_seconds = step_seconds * plan.steps_per_epoch
    costs = [with_save - without for without, with_save in turns]
    return {
        "epoch_seconds": epoch_seconds,
        "megabytes": sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 1e6,
        "save_seconds": statistics.median(costs),
        "share": statistics.median(costs) / epoch_seconds,
        "shares": [cost / epoch_seconds for cost in costs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side")
    parser.add_argument("--steps", type=int, default=10, help="steps a turn; a save must fit into them")
    parser.add_argument("--json", type=Path, help="file for the result")
    arguments = parser.parse_args()
    prepare_process()
    result = measure(arguments.rounds, arguments.steps)
    print(f"a checkpoint of {result['megabytes']:.0f} MB costs {result['save_seconds']:.2f} s of an epoch", end=" ")
    print(f"of {result['epoch_seconds']:.0f} s: {100 * result['share']:.1f}%")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
