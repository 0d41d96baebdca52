"""bertjax fine-tunes BERT in JAX: pure functions, pretrained weights, packed batches, every device.

    import bertjax

    config = bertjax.FineTuneConfig(data=bertjax.Table("reviews.csv", text=("title", "body"), label="stars"))
    result = bertjax.finetune(config)
    model, params = bertjax.from_pretrained(result.model_dir)

Everything in `__all__` is imported when it is first used, so `import bertjax` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertjax import training as training
    from bertjax.batch import Batch as Batch
    from bertjax.batch import padded_batch as padded_batch
    from bertjax.config import BertConfig as BertConfig
    from bertjax.config import Execution as Execution
    from bertjax.data.batching.packing import pack_batch as pack_batch
    from bertjax.data.table import Table as Table
    from bertjax.errors import UserError as UserError
    from bertjax.inference.predictor import Predictor as Predictor
    from bertjax.model.heads import BertOutput as BertOutput
    from bertjax.model_folder import from_pretrained as from_pretrained
    from bertjax.model_folder import save_pretrained as save_pretrained
    from bertjax.sweeps.sweep_config import Sweep as Sweep
    from bertjax.tasks import Model as Model
    from bertjax.tasks import make_model as make_model
    from bertjax.training.multi.multi_seed import SeedsResult as SeedsResult
    from bertjax.training.multi.multi_seed import finetune_seeds as finetune_seeds
    from bertjax.training.run.finetuning import FineTuneResult as FineTuneResult
    from bertjax.training.run.finetuning import finetune as finetune
    from bertjax.training.settings.finetune_config import FineTuneConfig as FineTuneConfig
    from bertjax.training.settings.options import Optimizer as Optimizer

__version__ = "0.1.0"

_HOME = {
    "Batch": "bertjax.batch",
    "BertConfig": "bertjax.config",
    "BertOutput": "bertjax.model.heads",
    "Execution": "bertjax.config",
    "FineTuneConfig": "bertjax.training.settings.finetune_config",
    "FineTuneResult": "bertjax.training.run.finetuning",
    "Model": "bertjax.tasks",
    "Optimizer": "bertjax.training.settings.options",
    "Predictor": "bertjax.inference.predictor",
    "SeedsResult": "bertjax.training.multi.multi_seed",
    "Sweep": "bertjax.sweeps.sweep_config",
    "Table": "bertjax.data.table",
    "UserError": "bertjax.errors",
    "finetune": "bertjax.training.run.finetuning",
    "finetune_seeds": "bertjax.training.multi.multi_seed",
    "from_pretrained": "bertjax.model_folder",
    "make_model": "bertjax.tasks",
    "pack_batch": "bertjax.data.batching.packing",
    "padded_batch": "bertjax.batch",
    "save_pretrained": "bertjax.model_folder",
}

__all__ = [*_HOME, "training"]  # noqa: PLE0604 (the table is the list)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name == "training":
        return import_module("bertjax.training")
    raise AttributeError(f"module 'bertjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
