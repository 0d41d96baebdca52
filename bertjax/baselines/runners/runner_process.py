"""The process of one contestant with one seed: `python -m bertjax.baselines.runners.runner_process OUT FRAMEWORK SEED`.

A process of its own starts with clean memory, and takes nobody with it when it crashes. It reads the settings of the
comparison from `OUT/config.json`, and leaves a result in its own folder.
"""

import json
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
from bertjax.baselines.runners.peak_memory import MemoryWatch
from bertjax.baselines.runners.runner import Job, Trained
from bertjax.baselines.runners.runner_result import MODEL, Result, run_folder, write_error, write_result
from bertjax.errors import UserError
from bertjax.model_folder import save_pretrained
from bertjax.prediction.devices import all_devices
from bertjax.prediction.predict import predict
from bertjax.settings import override
from bertjax.tasks import find_evaluator
from bertjax.training.run.prepare import prepare
from bertjax.training.run.run_folder import CONFIG
from bertjax.training.settings.finetune_config import FineTuneConfig

_PACKAGES = ("jax", "jaxlib", "torch", "transformers", "accelerate", "onnxruntime")


def main(arguments: list[str]) -> int:
    """Runs the contestant; the exit status says whether there is a result."""
    out, framework, seed = Path(arguments[0]), arguments[1], int(arguments[2])
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("bertjax").setLevel(logging.INFO)
    folder = run_folder(out, framework, seed)
    try:
        values = json.loads((out / CONFIG).read_text(encoding="utf-8"))
        config = replace(override(FineTuneConfig(), values), seed=seed)
        run(out, framework, config, keep_model="--keep-model" in arguments)
    except Exception as error:
        write_error(folder, f"{type(error).__name__}: {' '.join(str(error).split())}")
        if isinstance(error, UserError):
            logging.error("%s", error)
            return 1
        raise
    return 0


def run(out: Path, framework: str, config: FineTuneConfig, keep_model: bool) -> None:
    """Prepares the input, lets the framework train on it, evaluates, and writes the result."""
    row = FRAMEWORKS[framework]
    if not row.packed:
        config = replace(config, packing="off")
    prepared = prepare(config, all_devices(config.engine).count if row.packed else 1)
    contestant = import_module(f"bertjax.baselines.{row.module}")  # with its framework, before memory is looked at
    with MemoryWatch() as memory:
        trained: Trained = contestant.run(Job(framework, config, prepared, out))
        mark = time.perf_counter()
        answers = predict(trained.predict, trained.num_devices, prepared.test)
        evaluation_seconds = time.perf_counter() - mark
    report = find_evaluator(config.task)(answers, prepared.test, prepared.model.labels)
    folder = run_folder(out, framework, config.seed)
    if keep_model:
        save_pretrained(
            folder / MODEL,
            prepared.model,
            trained.params,
            prepared.tokenizer,
            preprocessing=prepared.preprocessing,
        )
    measured: dict[str, float] = {
        **(trained.speed._asdict() if trained.speed else {}),
        "evaluation_seconds": evaluation_seconds,
        "evaluation_examples": prepared.test.num_examples,
        "memory_before_bytes": memory.before,
        "memory_peak_bytes": memory.peak,
        **({} if trained.device_peak_bytes is None else {"device_peak_bytes": trained.device_peak_bytes}),
    }
    result = Result(
        framework,
        config.seed,
        config.task,
        prepared.model.labels,
        report.flat("test"),
        measured,
        trained.device,
        {name: version(name) for name in _PACKAGES if name in sys.modules},
        np.asarray(trained.losses, np.float64),
        answers,
        prepared.test.offsets,
    )
    write_result(folder, result)
    loss = f", last loss {trained.losses[-1]:.4f}" if trained.losses else ""
    logging.getLogger(__name__).info("%s, seed %d: done on %s%s", row.title, config.seed, jax.default_backend(), loss)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
