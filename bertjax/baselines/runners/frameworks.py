"""The frameworks of a comparison, one row each, and the jobs that each can do. Imports none of them."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import NamedTuple

from bertjax.errors import ConfigError
from bertjax.members import find_member
from bertjax.model_folder.adapter_folder import peft_names
from bertjax.tasks import Model, find_task, find_torch_task
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer, Regularization


class Framework(NamedTuple):
    """A framework and its runner.

    Attributes:
      title: for tables and figures.
      method: how it trains or predicts, so that a reader knows what a ratio was measured against.
      module: of the runner, in this folder (see `runner`).
      needs: packages besides bertjax's own requirements.
      extra: of bertjax, which installs them.
      same_batches: whether each update has the same examples as in every other such framework.
      trains: False for one that only predicts, with the weights that `jax` has trained with the same seed.
      packed: whether its input may have several examples in a row.
    """

    title: str
    method: str
    module: str
    needs: tuple[str, ...] = ()
    extra: str = ""
    same_batches: bool = True
    trains: bool = True
    packed: bool = False


_TORCH = ("torch", "accelerate")

FRAMEWORKS: Mapping[str, Framework] = {
    "jax": Framework("JAX", "bertjax on packed batches", "run_jax", packed=True),
    "torch": Framework(
        "PyTorch",
        "a plain loop over transformers' model: fused AdamW, fused attention, each batch padded to its longest text",
        "run_torch",
        ("torch",),
        "torch",
    ),
    "trainer": Framework(
        "Trainer",
        "transformers' Trainer at its defaults: fused AdamW, fused attention, shuffled batches padded to their longest "
        "text",
        "run_trainer",
        _TORCH,
        "torch",
        same_batches=False,
    ),
    "trainer-grouped": Framework(
        "Trainer, by length",
        "transformers' Trainer at its defaults, with texts of similar length in a batch",
        "run_trainer",
        _TORCH,
        "torch",
        same_batches=False,
    ),
    "onnx": Framework(
        "ONNX Runtime",
        "the trained network exported to ONNX, texts of similar length in a batch",
        "run_onnx",
        ("torch", "onnx", "onnxruntime", "onnxscript"),
        "onnx",
        trains=False,
    ),
}


def check_frameworks(names: Sequence[str]) -> None:
    """Checks that these frameworks can be compared on this machine.

    Raises:
      ConfigError: a name is unknown or given twice, a package is missing, or no framework trains.
    """
    for name in names:
        if name not in FRAMEWORKS:
            raise ConfigError(f"framework {name!r} is unknown; there are {', '.join(FRAMEWORKS)}")
        framework = FRAMEWORKS[name]
        absent = [package for package in framework.needs if find_spec(package) is None]
        if absent:
            extra = framework.extra
            raise ConfigError(f"framework {name!r} needs {', '.join(absent)}: pip install 'bertjax[{extra}]'")
        if not framework.trains and "jax" not in names:
            raise ConfigError(f"framework {name!r} answers with the weights that jax has trained; compare jax {name}")
    if len(set(names)) < len(names):
        raise ConfigError(f"--frameworks names one twice: {' '.join(names)}")


def check_job(names: Sequence[str], config: FineTuneConfig, model: Model) -> None:
    """Checks that every framework can do a job.

    Args:
      names: of the frameworks.
      config: the settings of the job.
      model: the JAX network that is trained, with the task, its head and its adapters.

    Raises:
      ConfigError: a framework lacks the head or a setting.
    """
    if config.early_stopping.patience is not None or config.evaluation.final_weights == "best":
        raise ConfigError("a comparison trains to the last step; leave out --patience and --final-weights best")
    if config.register is not None:
        raise ConfigError("a comparison has no single model to register; leave out --register")
    if any(name != "jax" for name in names):
        check_head(model)
    if any(FRAMEWORKS[name].trains and name != "jax" for name in names):
        _check_optimizer(config.optimizer)
        _check_regularization(config.regularization)
        _check_adapters(model)
        if config.distillation.teacher is not None:
            raise ConfigError("PyTorch is compared without --teacher, which transformers does not have; leave it out")
    if any(FRAMEWORKS[name].module == "run_trainer" for name in names):
        _check_trainer(config, model)


def check_head(model: Model) -> None:
    """Checks that transformers has the head of a model.

    Raises:
      ConfigError: it does not.
    """
    row = find_task(model.task)
    if row.loss is None:
        raise ConfigError(f"task {model.task!r} trains nothing, so there is nothing to compare")
    find_torch_task(model.task)
    if row.pooling == "chosen" and model.pooling != "pooler":
        architecture = find_member(model.config.model_type).architecture(row.architecture)
        raise ConfigError(
            f"transformers' {architecture} always reads the pooler: PyTorch has no head for --pooling "
            f"{model.pooling}; compare with --pooling pooler"
        )


def _check_regularization(regularization: Regularization) -> None:
    for flag, value in (("--r-drop", regularization.r_drop), ("--mixout", regularization.mixout)):
        if value:
            raise ConfigError(f"PyTorch is compared without {flag}, which transformers does not have; leave it out")


def _check_optimizer(optimizer: Optimizer) -> None:
    plain = Optimizer()
    for name in ("name", "layer_decay", "head_learning_rate", "ema_decay"):
        if getattr(optimizer, name) != getattr(plain, name):
            raise ConfigError(f"the PyTorch loop has no optimizer.{name} {getattr(optimizer, name)!r}; leave it out")
    if optimizer.schedule == "reduce_on_plateau":
        raise ConfigError("the PyTorch loop does not evaluate while it trains; leave out --schedule reduce_on_plateau")


def _check_adapters(model: Model) -> None:
    if model.config.adapters is not None and find_spec("peft") is None:
        raise ConfigError("the PyTorch loop has its adapters from peft: pip install 'bertjax[torch]'")
    peft_names(model)


def _check_trainer(config: FineTuneConfig, model: Model) -> None:
    if (reason := find_torch_task(model.task).no_trainer) is not None:
        raise ConfigError(reason)
    imbalance, optimizer = config.imbalance, config.optimizer.resolved()
    changed = (
        ("--freeze", config.freeze),
        ("--lora-rank", config.lora.rank),
        ("--class-weights", imbalance.class_weights),
        ("--label-smoothing", imbalance.label_smoothing),
        ("--focal-gamma", imbalance.focal_gamma),
        ("--label-probabilities", config.data.label_probabilities is not None),
        ("--no-decay", optimizer.no_decay != Optimizer.no_decay),
        ("--schedule", optimizer.schedule != "linear"),
        ("--final-share", optimizer.final_share),
    )
    flags = [flag for flag, is_set in changed if is_set]
    if flags:
        raise ConfigError(
            f"the Trainer is run as it comes, without {', '.join(flags)}; leave that out, or compare --frameworks jax "
            f"torch"
        )
