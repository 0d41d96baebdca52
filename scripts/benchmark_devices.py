"""Whether the number of devices changes what is learned: the losses of one job on 1, 2 and 4 of the host's devices.

Each number of devices has a process of its own. Dropout is off, for it draws other masks on other devices. Bounds: 1e-5
over the first 20 steps, 1e-3 over 100.

    python scripts/benchmark_devices.py --steps 100
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

BOUNDS = {20: 1e-5, 100: 1e-3}  # over this many steps, the largest difference of a loss

CURVE = "import sys, json, benchmark_devices as b; print(json.dumps(b.losses(int(sys.argv[1]), sys.argv[2])))"


def losses(steps: int, engine: str) -> list[float]:
    """The loss of each step of the default job on all devices of this process."""
    import jax

    from bertjax import FineTuneConfig, make_optimizer, make_train_step
    from bertjax.devices.data_parallel import AXIS, all_devices
    from bertjax.training.run.prepare import prepare
    from bertjax.training.run.prepared_run import loss_of
    from bertjax.training.step.compiled_step import CompiledTrainStep

    config = replace(FineTuneConfig(), dropout_rate=0.0, engine="shard_map" if engine == "shard_map" else "pmap")
    devices = all_devices(config.engine)
    prepared = prepare(config, devices.count)
    optimizer = make_optimizer(config.optimizer, prepared.train.plan.total_steps, prepared.model)
    step = make_train_step(prepared.model, optimizer, loss_of(config), axis_name=AXIS)
    state = devices.place(step.init(prepared.params, jax.random.PRNGKey(config.seed)))
    runner = CompiledTrainStep(devices, prepared.model, step, state, prepared.train.plan.empty_batches)
    curve = []
    for _, packed_batch in zip(range(steps), prepared.train.batches(), strict=False):
        state, metrics = runner(state, packed_batch.batch)
        curve.append(float(metrics["loss"]))
    return curve


def curve_on(count: int, steps: int, engine: str) -> list[float]:
    """`losses` in a fresh process with so many host devices."""
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", CURVE, str(steps), engine]
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, env={**os.environ, **flags}, capture_output=True, text=True, check=True)
    curve: list[float] = json.loads(done.stdout.splitlines()[-1])
    return curve


def largest_differences(curves: Mapping[str, Sequence[float]]) -> dict[str, dict[int, float]]:
    """Of each curve from the first, over the steps of each bound that it is long enough for."""
    one, *others = curves.items()
    return {
        name: {
            steps: max(abs(a - b) for a, b in zip(curve[:steps], one[1][:steps], strict=True))
            for steps in BOUNDS
            if steps <= len(one[1])
        }
        for name, curve in others
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    curves = {}
    for count, engine in ((1, "pmap"), (2, "pmap"), (4, "pmap"), (4, "shard_map")):
        curves[f"{engine} on {count}"] = curve_on(count, arguments.steps, engine)
        print(f"{engine} on {count}: last loss {curves[f'{engine} on {count}'][-1]:.6f}", flush=True)
    differences = largest_differences(curves)
    for name, largest in differences.items():
        for steps, difference in largest.items():
            verdict = "holds" if difference <= BOUNDS[steps] else "BROKEN"
            print(f"{name}, {steps} steps: largest difference {difference:.1e}, bound {BOUNDS[steps]:.0e}: {verdict}")
    if arguments.json:
        result = {"curves": curves, "largest_differences": differences}
        Path(arguments.json).write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
