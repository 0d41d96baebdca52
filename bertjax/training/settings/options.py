"""The groups of settings of a run: frozen dataclasses, cheap to import."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from bertjax.errors import ConfigError
from bertjax.settings import (
    LONGEST,
    Count,
    CountFromZero,
    InnerShare,
    NotNegative,
    Positive,
    Range,
    Share,
    ShareBelowOne,
    check_ranges,
    require,
    require_known,
)
from bertjax.training.settings.optimizer_defaults import OPTIMIZERS, SCHEDULES


@dataclass(frozen=True)
class Optimizer:
    """The optimizer. Settings that are None take the values that its authors published."""

    name: str = "adamw"
    """Optimizer: adamw, lamb, adafactor, lion, sgd, schedule_free_adamw, or muon."""

    learning_rate: Positive | None = None
    """Peak learning rate; default: the optimizer's own, 1e-4 for adamw, and ten times that for LoRA. BERT-base and
    larger want 2e-5 to 5e-5."""

    schedule: str | None = None
    """Learning rate schedule after the warmup: linear (to 0), cosine, constant, inverse_sqrt, polynomial, or
    reduce_on_plateau; default: linear, constant for schedule_free_adamw."""

    warmup: Annotated[float, Range(0, LONGEST)] = 0.1
    """Warmup, in steps (1 or more) or as a share of all steps (below 1)."""

    final_share: Share = 0.0
    """Final learning rate of linear, cosine and polynomial, as a share of the peak."""

    power: Positive = 2.0
    """Power of the polynomial schedule; 1 is linear."""

    plateau_factor: InnerShare = 0.5
    """Factor by which reduce_on_plateau lowers the learning rate."""

    plateau_patience: Count = 2
    """Evaluations without improvement, after which reduce_on_plateau lowers the learning rate."""

    weight_decay: NotNegative | None = None
    """Decoupled weight decay; default: the optimizer's own, 0.01 for adamw."""

    no_decay: tuple[str, ...] = ("biases", "norms")
    """Parameters without weight decay: `biases`, `norms`, `embeddings`, `head`, `backbone`, `layers:N` (the first N),
    or patterns of parameter paths such as `bert/layer_*/attention/*`."""

    clip_norm: NotNegative | None = 1.0
    """Gradient clipping: largest global norm; 0 or None for none."""

    layer_decay: Annotated[float, Range(0, 1, open_low=True)] = 1.0
    """Layer-wise learning rate decay: factor from each layer to the one below; embeddings are below the first."""

    head_learning_rate: Positive | None = None
    """Peak learning rate of the head; default: `learning_rate`."""

    ema_decay: InnerShare | None = None
    """Evaluate and save an exponential moving average of the parameters, with this decay."""

    b1: ShareBelowOne | None = None
    """Decay of the first moment."""

    b2: ShareBelowOne | None = None
    """Decay of the second moment."""

    eps: Positive | None = None
    """Added to the root of the second moment."""

    momentum: ShareBelowOne | None = None
    """Decay of the momentum of sgd and muon."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settings = require_known("optimizer", self.name, OPTIMIZERS)
        if self.schedule is not None:
            require_known("schedule", self.schedule, dict.fromkeys(SCHEDULES))
        warmup_fits = self.warmup < 1 or self.warmup == int(self.warmup)
        require(warmup_fits, "warmup is a share of the steps, in [0, 1), or a whole number of them", self.warmup)
        for name in ("b1", "b2", "eps", "momentum"):
            if getattr(self, name) is not None and name not in settings:
                own = ", ".join(other for other in settings if other != "schedule")
                raise ConfigError(f"optimizer {self.name!r} has no {name}; it has {own}")
        if self.name == "schedule_free_adamw":
            if self.schedule not in (None, "constant"):
                raise ConfigError(f"schedule_free_adamw keeps its rate constant; leave out schedule {self.schedule!r}")
            if self.ema_decay is not None:
                raise ConfigError("schedule_free_adamw has an average of its own; leave out ema_decay")
            require(self.b1 != 0, "b1 of schedule_free_adamw must be positive", self.b1)

    def resolved(self) -> "Optimizer":
        """The same settings, with the optimizer's defaults instead of None: what a run uses and records."""
        defaults: Any = OPTIMIZERS[self.name]
        return replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters instead of full fine-tuning (LoRA; Hu et al. 2021, arXiv:2106.09685): the encoder stays as
    it is, and small matrices beside its linear layers are learned, with the whole of the head."""

    rank: CountFromZero = 0
    """LoRA: rank of the adapters, such as 8; 0 is full fine-tuning."""

    alpha: Positive = 16.0
    """LoRA: the adapters are scaled by alpha / rank."""

    dropout: ShareBelowOne = 0.0
    """LoRA: dropout on the input of the adapters."""

    targets: tuple[str, ...] = ("bert/layer_*/attention/query/*", "bert/layer_*/attention/value/*")
    """LoRA: linear layers of the encoder that have an adapter, by patterns of parameter paths, such as `bert/layer_*`
    for all of them."""

    def __post_init__(self) -> None:
        check_ranges(self, "lora.")
        require(len(self.targets) > 0, "lora.targets must name linear layers", list(self.targets))
        others = {name: value for name, value in vars(self).items() if name != "rank"}
        if not self.rank and any(value != getattr(Lora, name) for name, value in others.items()):
            raise ConfigError("lora.alpha, lora.dropout and lora.targets are of adapters; give lora.rank, such as 8")


@dataclass(frozen=True)
class Imbalance:
    """Remedies for imbalanced classes, all off by default."""

    class_weights: tuple[str, ...] = ()
    """Weight of each class in the loss: `balanced` (inverse to its share of the training rows), or `label=weight` for
    some classes, the others weighing 1."""

    label_smoothing: ShareBelowOne = 0.0
    """Label smoothing: share of a label that is spread evenly over all classes."""

    focal_gamma: NotNegative = 0.0
    """Focal loss: a label of probability p is weighted by (1 - p)^gamma; 2 is usual."""

    oversample: bool = False
    """Repeat training rows of smaller classes, until each class has as many as the largest."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.oversample and self.class_weights:
            raise ConfigError("oversample and class_weights both make up for small classes; give one of them")


@dataclass(frozen=True)
class Regularization:
    """Regularization besides dropout and weight decay, off by default."""

    r_drop: NotNegative = 0.0
    """R-Drop: weight of the divergence between two forward passes with different dropout masks, which takes twice the
    time; 1 to 5 are usual."""

    mixout: ShareBelowOne = 0.0
    """Mixout: share of the layers' weights that are replaced by their pretrained values in each step; 0.7 to 0.9,
    without dropout, are usual."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Distillation:
    """Knowledge distillation from a teacher, a model of the same task; off without a teacher."""

    teacher: str | None = None
    """Model to learn from, of the run's task and labels: a folder, a hub id, a name of the catalog, or
    `models:/NAME@ALIAS`. It may be of another size, kind and tokenizer than --model."""

    teacher_weight: Annotated[float, Range(0, 1, open_low=True)] = 0.5
    """Weight of the distillation loss; the loss on the labels has the rest. At 1 the labels are not used."""

    teacher_temperature: Positive = 2.0
    """Distillation temperature, which divides the logits of both: above 1, classes that the teacher finds unlikely
    count more. Not for numbers and cosines."""

    teacher_layers: tuple[str, ...] = ()
    """Hidden states to match, such as 1:3 2:6: the output of layer 1 with that of the teacher's layer 3, and so on;
    0 is the embeddings. The teacher must have the same tokenizer and width."""

    teacher_layers_weight: Positive = 1.0
    """Weight of the squared error of the hidden states, which is added to the loss."""

    def __post_init__(self) -> None:
        check_ranges(self)
        for name in ("teacher_weight", "teacher_temperature", "teacher_layers", "teacher_layers_weight"):
            if self.teacher is None and getattr(self, name) != getattr(Distillation, name):
                raise ConfigError(f"{name} is of a teacher, and there is none; name one with --teacher")
        require(self.teacher != "", "teacher is the name of a model", self.teacher)
        for entry in self.teacher_layers:
            numbers = entry.split(":")
            fits = len(numbers) == 2 and all(number.isascii() and number.isdecimal() for number in numbers)
            require(fits, "teacher_layers are pairs of a layer and one of the teacher, such as 1:3 2:6", entry)
        if not self.teacher_layers and self.teacher_layers_weight != Distillation.teacher_layers_weight:
            raise ConfigError("teacher_layers_weight is of hidden states; name their layers with --teacher-layers")

    @property
    def layer_pairs(self) -> tuple[tuple[int, int], ...]:
        """The pairs of `teacher_layers`."""
        return tuple((int(ours), int(theirs)) for ours, _, theirs in (e.partition(":") for e in self.teacher_layers))


Unit = Literal["epochs", "steps"]


@dataclass(frozen=True)
class Evaluation:
    """When a run is evaluated, and its best-checkpoint metric."""

    evaluate_every: Count = 1
    """Evaluate the validation rows every so many epochs (or steps), and at the end."""

    evaluate_unit: Unit = "epochs"
    """Unit of `evaluate_every`."""

    best_metric: str | None = None
    """Metric that selects the best weights, such as `validation/f1_macro` or `epoch/train_loss`; default: the
    task's main one on the validation rows, where there are some."""

    best_mode: Literal["auto", "max", "min"] = "auto"
    """Whether the metric is maximised or minimised; `auto` decides by its name."""

    final_weights: Literal["last", "best"] = "last"
    """Weights to test and to save: those after the last step, or the best by `best_metric`."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Judging:
    """Further analyses of the test rows; `bertjax evaluate` has more."""

    intervals: bool = True
    """Leave out the confidence intervals of the metrics, a bootstrap over the test rows."""

    automatic_slices: bool = True
    """Leave out the slices of the test rows by length, true label, confidence, unknown words, and what else the task
    has."""

    label_issues: bool = False
    """Look for labels of test rows that are wrong, by confident learning."""

    explain: CountFromZero = 0
    """Explain so many test rows of each kind: right and wrong answers, those that the model is most and least sure of.
    Each takes the time of some 50 rows."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class EarlyStopping:
    """When a run ends before its last epoch."""

    patience: Count | None = None
    """Evaluations without a better `best_metric` after which the run stops; default: it never does."""

    min_improvement: NotNegative = 0.0
    """Smaller improvements of the metric do not count."""

    max_skipped_steps: Count = 10
    """Steps whose loss or gradient is not finite are skipped; after this many in a row the run stops."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Checkpointing:
    """When a run saves its state, and what it keeps."""

    save_every: Count = 1
    """Save the state every so many epochs (or steps), at the end, and when it is the best so far."""

    save_unit: Unit = "epochs"
    """Unit of `save_every`."""

    keep_checkpoints: Count = 2
    """Newest checkpoints to keep, besides the best one."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Workers:
    """Processes that share a run, on this machine or on many, by Ray Train."""

    num_workers: CountFromZero = 0
    """Processes that share the run: one per TPU host, or one per GPU. 0 is this process, without Ray."""

    use_gpu: bool = False
    """Each worker has a GPU of its own."""

    topology: str | None = None
    """Topology of the TPU slice, such as 4x4; needs --accelerator."""

    accelerator: str | None = None
    """Kind of TPU or GPU that workers are placed on, such as TPU-V6E."""

    address: str | None = None
    """Ray cluster, HOST:PORT, or `auto` on one of its nodes; default: RAY_ADDRESS, or Ray on this machine."""

    max_failures: Annotated[int, Range(-1, LONGEST)] = 3
    """Restarts of the workers after one died, at most; -1 for no limit."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.topology and not self.accelerator:
            raise ConfigError(f"--topology {self.topology} needs --accelerator, such as TPU-V6E")
        if self.use_tpu and self.use_gpu:
            raise ConfigError(f"--use-gpu and --accelerator {self.accelerator} exclude each other")
        if (self.use_gpu or self.topology or self.accelerator or self.address) and not self.num_workers:
            raise ConfigError(
                "--use-gpu, --topology, --accelerator and --address are for workers; give --num-workers too"
            )

    @property
    def use_tpu(self) -> bool:
        """Whether the accelerator is a TPU."""
        return self.accelerator is not None and self.accelerator.upper().startswith("TPU")
