"""Training speed of the default fine-tuning against a plain PyTorch loop, interleaved: the same examples in each
update, the same optimizer and dropout; PyTorch pads each batch to its longest text, bertjax packs.

The machine may be busy with other things, so the two take turns and the ratio of each pair is what counts.

    python scripts/benchmark_finetune.py --rounds 5 --steps 15
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax

from bertjax import FineTuneConfig, make_optimizer, make_train_step
from bertjax.baselines.runners.run_torch import make_update
from bertjax.cli.process.process_setup import restart_with_huge_pages
from bertjax.prediction.devices import AXIS, all_devices
from bertjax.tasks import TASKS
from bertjax.training.run.prepare import Prepared, prepare
from bertjax.training.step.compiled_step import CompiledTrainStep

Block = Callable[[int], tuple[int, int, int]]  # steps -> examples, real tokens, computed tokens


def bertjax_block(config: FineTuneConfig, prepared: Prepared) -> Block:
    """Runs training steps as `finetune` does."""
    total_steps = prepared.train.plan.total_steps
    optimizer = make_optimizer(config.optimizer, total_steps, prepared.model)
    loss = TASKS[config.task].loss
    assert loss is not None
    step = make_train_step(prepared.model, optimizer, loss, axis_name=AXIS)
    devices = all_devices(config.engine)
    state = devices.place(step.init(prepared.params, jax.random.PRNGKey(config.seed)))
    engine = CompiledTrainStep(devices, prepared.model, step, state, prepared.train.plan.empty_batches)
    engine.wait()
    print(f"bertjax compiled {engine.compiles} shape(s) and the update in {engine.compile_seconds:.1f} s", flush=True)
    batches = prepared.train.batches()
    current = [state]

    def run(steps: int) -> tuple[int, int, int]:
        examples = real = computed = 0
        for _, packed_batch in zip(range(steps), batches, strict=False):
            current[0], metrics = engine(current[0], packed_batch.batch)
            examples += packed_batch.num_examples
            real += packed_batch.num_tokens
            computed += packed_batch.batch.token_ids.size
        jax.block_until_ready(current[0])
        float(metrics["loss"])
        return examples, real, computed

    return run


def torch_block(config: FineTuneConfig) -> Block:
    """Runs the PyTorch loop of the baselines on the same batches, each padded to its longest text."""
    prepared = prepare(replace(config, packing="off"), num_devices=1)
    _, update = make_update(config, prepared)
    batches = enumerate(prepared.train.batches())

    def run(steps: int) -> tuple[int, int, int]:
        examples = real = computed = 0
        for _, (number, packed_batch) in zip(range(steps), batches, strict=False):
            _, computed_tokens = update(number, packed_batch)
            examples += packed_batch.num_examples
            real += packed_batch.num_tokens
            computed += computed_tokens
        return examples, real, computed

    return run


def measure(blocks: dict[str, Block], rounds: int, steps: int) -> dict[str, Any]:
    """Takes turns; returns speeds of each turn, their medians, shares of real tokens and the ratio of the pairs."""
    for block in blocks.values():
        block(3)  # warm caches, threads and allocators
    speeds: dict[str, list[float]] = {name: [] for name in blocks}
    shares: dict[str, float] = {}
    for _ in range(rounds):
        for name, block in blocks.items():
            started = time.perf_counter()
            examples, real, computed = block(steps)
            speeds[name].append(examples / (time.perf_counter() - started))
            shares[name] = real / computed
    ratios = [ours / theirs for ours, theirs in zip(speeds["bertjax"], speeds["torch"], strict=True)]
    return {
        "examples_per_second": {name: statistics.median(values) for name, values in speeds.items()},
        "best_examples_per_second": {name: max(values) for name, values in speeds.items()},
        "real_token_share": shares,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=15, help="steps a turn")
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    restart_with_huge_pages()
    config = FineTuneConfig().resolved()
    prepared = prepare(config, all_devices().count)
    blocks = {"torch": torch_block(config), "bertjax": bertjax_block(config, prepared)}
    result = measure(blocks, arguments.rounds, arguments.steps)
    for name in blocks:
        print(
            f"{name:<8} {result['examples_per_second'][name]:6.1f} examples/s median, "
            f"{result['best_examples_per_second'][name]:6.1f} best, "
            f"{100 * result['real_token_share'][name]:.1f}% real tokens"
        )
    print(f"bertjax / torch: {result['ratio']:.2f} (each turn: {', '.join(f'{r:.2f}' for r in result['ratios'])})")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
