"""A model folder as an MLflow model, which `mlflow models serve` and `mlflow.pyfunc.load_model` run anywhere.

It is saved as code (`pyfunc_model.py`) beside the folder, so the bertjax that is installed there reads it.
"""

import json
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

from bertjax.config import read_config_json
from bertjax.model_folder.stored_settings import stored_preprocessing, stored_reading, stored_task
from bertjax.storage.plain_path import is_plain
from bertjax.tasks import find_postprocess, find_readout, find_task

# Pinned to the versions that made the model.
_REQUIREMENTS = ("bertjax", "dm-haiku", "jax", "jaxlib", "mlflow", "numpy", "pandas", "safetensors", "transformers")


def save_pyfunc(model_dir: Path, target: Path) -> bool:
    """Writes a folder with a model folder inside that MLflow runs.

    Args:
      model_dir: a folder that `bertjax.Predictor.load` reads.
      target: the folder to write, which must not exist.

    Returns:
      Whether the model's task predicts texts; if not, nothing is written.
    """
    # MLflow warns of its own type hints and of pandas' version, which no user can change.
    with warnings.catch_warnings(action="ignore"):
        return _save(model_dir, target)


def _save(model_dir: Path, target: Path) -> bool:
    import mlflow
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType, Array, Map

    stored = read_config_json(model_dir)
    task = stored_task(stored)
    if find_task(task).postprocess is None:
        return False
    outputs, sample = find_postprocess(task).columns, find_readout(task).format.sample
    preprocessing, candidates = stored_preprocessing(stored), stored_reading(stored).get("data.candidates", ())
    columns = dict.fromkeys([*preprocessing.text, *preprocessing.text_pair, *candidates, "text", "text_pair"])
    types: dict[str, Any] = {
        "text": DataType.string,
        "number": DataType.double,
        "texts": Array(DataType.string),
        "numbers": Map(DataType.double),
        "records": AnyType(),
    }
    text, *pair = [sample] if isinstance(sample, str) else sample
    if preprocessing.text_pair and not pair:
        pair = [text]
    example = {"text": [text], **({"text_pair": [_cell(pair[0])]} if pair else {})}
    mlflow.pyfunc.save_model(
        target,
        python_model=str(Path(__file__).with_name("pyfunc_model.py")),
        artifacts={"model": _artifact(model_dir)},
        signature=ModelSignature(
            inputs=Schema([ColSpec("string", column, required=False) for column in columns]),
            outputs=Schema([ColSpec(types[kind], name) for name, kind in outputs.items()]),
        ),
        input_example=pd.DataFrame(example),
        pip_requirements=[f"{name}=={metadata.version(name)}" for name in _REQUIREMENTS],
    )
    return True


def _cell(value: Any) -> str:
    """A text, or candidates as a table has them in one cell."""
    return value if isinstance(value, str) else json.dumps(value)


def _artifact(folder: Path) -> str:
    """A folder as MLflow wants it: where it would decode `%20` in the path, or take `s3:/run` for a bucket, encoded."""
    parent = folder.absolute().parent
    return str(folder) if is_plain(parent) else f"{parent.as_uri()}/{folder.name}"
