"""The process of one framework with one seed: `python -m bertjax.baselines.runners.runner_process OUT FRAMEWORK SEED`.

Each run has a process of its own, which starts with clean memory and whose crash leaves the other runs alone. It reads
the settings of the comparison from `OUT/config.json` and writes a result into the folder of the run.
"""

import logging
import sys
import time
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

from bertjax.baselines.runners.frameworks import FRAMEWORKS
from bertjax.baselines.runners.peak_memory import PeakMemory
from bertjax.baselines.runners.runner import RunnerInput, RunnerOutput
from bertjax.baselines.runners.runner_result import MODEL, RunResult, run_folder, write_error, write_result
from bertjax.devices.data_parallel import all_devices
from bertjax.errors import UserError
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.prediction.forward import predict
from bertjax.settings import override
from bertjax.storage.folder_lock import locked_folder
from bertjax.tasks import find_evaluator
from bertjax.training.run.prepare import prepare
from bertjax.training.run.prepared_run import fingerprints
from bertjax.training.run.run_folder import stored_settings
from bertjax.training.settings.finetune_config import FineTuneConfig

_PACKAGES = ("jax", "jaxlib", "torch", "transformers", "accelerate", "onnxruntime")

logger = logging.getLogger("bertjax.baselines.runners")


def main(arguments: list[str]) -> int:
    """Runs the framework; the exit status is 0 where it has written a result."""
    out, framework, seed = Path(arguments[0]), arguments[1], int(arguments[2])
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("bertjax").setLevel(logging.INFO)
    try:
        config = replace(override(FineTuneConfig(), stored_settings(out)), seed=seed)
        with locked_folder(run_folder(out, framework, seed)):  # it may outlive a comparison that is killed
            run(out, framework, config, keep_model="--keep-model" in arguments)
    except Exception as error:
        write_error(run_folder(out, framework, seed), f"{type(error).__name__}: {' '.join(str(error).split())}")
        if isinstance(error, UserError):
            logger.error("%s", error)
            return 1
        raise
    return 0


def run(out: Path, framework: str, config: FineTuneConfig, keep_model: bool) -> None:
    """Prepares the input, trains, evaluates on the test rows, and writes the result."""
    row, settings = FRAMEWORKS[framework], config
    if row.packed:
        devices = all_devices(config.engine)
        prepared = prepare(config, devices.count, platform=devices.platform)
    else:
        config = replace(config, packing="off")
        prepared = prepare(config)
    # Imports the framework, before the memory is sampled.
    runner = import_module(f"bertjax.baselines.runners.{row.module}")
    with PeakMemory() as memory:
        output: RunnerOutput = runner.run(RunnerInput(framework, config, prepared, out))
        started = time.perf_counter()
        answers = predict(output.predict, output.num_devices, config.task, prepared.test)
        evaluation_seconds = time.perf_counter() - started
    report = find_evaluator(config.task)(answers, prepared.test, prepared.model.labels)
    folder = run_folder(out, framework, config.seed)
    if keep_model:
        save_pretrained(
            folder / MODEL,
            prepared.model,
            output.params,
            prepared.tokenizer,
            preprocessing=prepared.preprocessing,
        )
    measured: dict[str, float] = {
        **(output.speed._asdict() if output.speed else {}),
        "evaluation_seconds": evaluation_seconds,
        "evaluation_examples": prepared.test.num_examples,
        "memory_before_bytes": memory.before,
        "memory_peak_bytes": memory.peak,
        **({} if output.device_peak_bytes is None else {"device_peak_bytes": output.device_peak_bytes}),
    }
    result = RunResult(
        framework=framework,
        seed=config.seed,
        task=config.task,
        labels=prepared.model.labels,
        metrics=report.flat("test"),
        measured=measured,
        device=output.device,
        versions={name: version(name) for name in _PACKAGES if name in sys.modules},
        made_from=fingerprints(settings, prepared),
        losses=np.asarray(output.losses, np.float64),
        answers=answers,
        offsets=prepared.test.offsets,
    )
    write_result(folder, result)
    loss = f", last loss {output.losses[-1]:.4f}" if output.losses else ""
    logger.info("%s, seed %d: done on %s%s", row.title, config.seed, jax.default_backend(), loss)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
