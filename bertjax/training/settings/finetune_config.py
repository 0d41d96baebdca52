"""The settings of a fine-tuning run: a frozen dataclass, cheap to import."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

from bertjax.config import Execution, Pooling
from bertjax.data.table import Masking, Table
from bertjax.errors import ConfigError
from bertjax.evaluation.simple_models.beside_settings import SimpleModels
from bertjax.settings import LONGEST, Count, Range, Seed, ShareBelowOne, check_ranges, flatten, require
from bertjax.tracking.tracker import Tracking
from bertjax.training.settings.options import (
    Checkpointing,
    Distillation,
    EarlyStopping,
    Evaluation,
    Imbalance,
    Judging,
    Lora,
    Optimizer,
    Regularization,
)

_LORA_RATE = 10  # learning rate of adapters, in the unit of that of whole matrices; Schulman et al. 2025
_LONGEST_EXPERIMENT, _LONGEST_REGISTERED = 500, 256  # characters that MLflow takes

# Groups of settings in files that earlier versions wrote -> their present names.
_RENAMED_GROUPS = {
    "regularizing": "regularization",
    "evaluating": "evaluation",
    "stopping": "early_stopping",
    "saving": "checkpointing",
}

# Settings that earlier versions did not have -> what they did, where that is not today's default.
_ADDED = {"standardize_targets": False}


@dataclass(frozen=True)
class FineTuneConfig:
    """Everything a fine-tuning run depends on. The defaults fine-tune MiniLM-L6 on TREC questions."""

    model: str = "minilm-l6"
    """Weights to start from: a folder, a hub id, a name of the catalog, or `models:/NAME@ALIAS` of MLflow's
    registry."""

    data: Table = field(default_factory=Table)
    """The labelled table."""

    task: str = "classification"
    """The task to learn: classification, multi_label, regression, token_classification, question_answering,
    multiple_choice, next_sentence, masked_lm, sentence_embedding, or one that `bertjax.register_task` added."""

    standardize_targets: bool = True
    """Standardise the targets of a regression for training. Predictions and metrics are in the units of the table."""

    pooling: Pooling | None = None
    """How an example becomes one vector; default: as the checkpoint was saved, else the task's default."""

    max_length: Annotated[int, Range(3, LONGEST, note=" ([CLS], a token, [SEP])")] = 128
    """Maximum tokens of an example; longer ones are cut."""

    epochs: Count = 3
    """Passes over the training rows."""

    batch_size: Count = 32
    """Examples per update, over all devices."""

    accumulate: Count = 1
    """Gradient accumulation: parts that a device splits its share of a batch into; less memory, the same update."""

    packing: Literal["on", "off"] = "on"
    """Pack several examples into a row, or pad each to a row of its own; the results are the same."""

    seed: Seed = 0
    """Seed of the head's initialisation, the order of examples, and dropout."""

    dropout_rate: ShareBelowOne | None = None
    """Dropout rate everywhere; default: the checkpoint's own rates."""

    engine: Literal["pmap", "shard_map"] = "pmap"
    """How a step runs on several devices, by `jax.pmap` or `jax.shard_map`; the numbers are the same."""

    freeze: tuple[str, ...] = ()
    """Parameters to freeze: `embeddings`, `layers:N` (the first N), `head`, `backbone` (everything but the head),
    `biases`, `norms`, or patterns of parameter paths such as `bert/layer_*/attention/*`."""

    lora: Lora = field(default_factory=Lora)
    """Low-rank adapters (LoRA), trained instead of the encoder."""

    init_missing: tuple[str, ...] = ()
    """Tensors that the checkpoint may lack, by Hugging Face's names or patterns of them (`cls.*`)."""

    drop: tuple[str, ...] = ()
    """Tensors of the checkpoint to leave out, by Hugging Face's names or patterns of them."""

    resize_embeddings: bool = False
    """Add rows to the word embeddings for the tokens that were added to the tokenizer, as transformers'
    `resize_token_embeddings` does; without it such a tokenizer is refused."""

    execution: Execution = field(default_factory=Execution)
    """How the network is computed."""

    optimizer: Optimizer = field(default_factory=Optimizer)
    """How parameters are updated."""

    masking: Masking = field(default_factory=Masking)
    """How words are masked, for masked language models."""

    imbalance: Imbalance = field(default_factory=Imbalance)
    """Remedies for imbalanced classes."""

    regularization: Regularization = field(default_factory=Regularization)
    """Regularization besides dropout and weight decay."""

    distillation: Distillation = field(default_factory=Distillation)
    """Knowledge distillation from a teacher."""

    evaluation: Evaluation = field(default_factory=Evaluation)
    """When the run is evaluated, and its best-checkpoint metric."""

    simple_models: SimpleModels = field(default_factory=SimpleModels)
    """Simple baselines to compare the network with."""

    judging: Judging = field(default_factory=Judging)
    """Further analyses of the test rows."""

    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    """When the run ends early."""

    checkpointing: Checkpointing = field(default_factory=Checkpointing)
    """When the run saves its state."""

    experiment: str = "bertjax"
    """MLflow experiment that the run belongs to."""

    tracking: Tracking = "mlflow"
    """Where the run is recorded besides its folder: mlflow, or none."""

    register: str | None = None
    """Name in MLflow's model registry of which the model becomes a version: the `champion` if it is the first one, else
    the `challenger`. `--model models:/NAME@champion` starts from it."""

    def __post_init__(self) -> None:
        check_ranges(self)
        self.execution.check_trainable()
        require(self.tracking in get_args(Tracking), f"tracking is {' or '.join(get_args(Tracking))}", self.tracking)
        if self.batch_size < self.accumulate:
            raise ConfigError(f"accumulate {self.accumulate} needs a batch_size as large, got {self.batch_size}")
        if self.lora.rank and self.regularization.mixout:
            raise ConfigError("mixout takes weights back to where they started, and LoRA leaves them there; give one")
        if self.lora.rank and self.resize_embeddings:
            raise ConfigError(
                "resize_embeddings adds rows that must be learned, and LoRA leaves embeddings as they are"
            )
        require(self.experiment != "", "experiment is the name of an MLflow experiment", self.experiment)
        longest = _LONGEST_EXPERIMENT
        require(len(self.experiment) <= longest, f"experiment has at most {longest} characters", self.experiment)
        if self.register is not None:
            require(self.tracking == "mlflow", "register needs tracking in mlflow, whose registry it is", self.tracking)
            name = self.register.strip()
            allowed = name not in ("", ".", "..") and not any(sign in name for sign in "/:@'")
            require(allowed, "register is a name without / : @ and '", self.register)
            longest = _LONGEST_REGISTERED
            require(len(self.register) <= longest, f"register has at most {longest} characters", self.register)

    def resolved(self) -> "FineTuneConfig":
        """The same settings, with the optimizer's defaults instead of None: what a run uses and records.

        Adapters want a higher learning rate than whole matrices: ten times the optimizer's own.
        """
        optimizer = self.optimizer.resolved()
        if self.lora.rank and self.optimizer.learning_rate is None:
            assert optimizer.learning_rate is not None, "resolved settings have one"
            optimizer = replace(optimizer, learning_rate=_LORA_RATE * optimizer.learning_rate)
        return replace(self, optimizer=optimizer)


def with_current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted path, as a file has them, with the names that their groups have today.

    >>> with_current_names({"stopping.patience": 3, "epochs": 2})
    {'early_stopping.patience': 3, 'epochs': 2}
    """

    def current(path: str) -> str:
        group, dot, name = path.partition(".")
        return f"{_RENAMED_GROUPS.get(group, group)}{dot}{name}" if dot else path

    return {current(path): value for path, value in settings.items()}


def of_this_version(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run by dotted path, as an earlier version wrote them, with today's names, and with what that
    version did in the place of settings that it did not have. What else is among them stays."""
    return flatten(FineTuneConfig()) | _ADDED | with_current_names(settings)


def check_seeds(seeds: Sequence[int]) -> None:
    """Checks the seeds of several runs.

    Raises:
      ConfigError: a seed is given twice, or is not a seed.
    """
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    require(not twice, "seeds must be distinct; given twice", twice)
    for seed in seeds:
        FineTuneConfig(seed=seed)
