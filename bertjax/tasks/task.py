"""`Task`: all that is specific to a task (head, loss, format, evaluator, ...), as one value."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from bertjax import losses
from bertjax.batch import Batch, LabelsOf, Pretraining
from bertjax.data.task_formats import TaskFormat
from bertjax.losses import Loss, SoftLoss
from bertjax.metrics.reports import Evaluator
from bertjax.model.bert import ForwardOptions
from bertjax.model.heads import BertOutput, HeadConfig
from bertjax.tasks.postprocess import Postprocess

Target = Literal["class", "labels", "numbers", "word_labels"]
"""What a row is labelled with: a class, several labels, numbers, or a label for each word."""


class Metric(NamedTuple):
    """The metric by which models are compared.

    Attributes:
      name: its key in a report, without the prefix of the split: `accuracy` for `test/accuracy`.
      greater_is_better: False for a loss.
      otherwise: the key to use in reports without that one; for word labels that mark no entities, there is no entity
        F1.
    """

    name: str
    greater_is_better: bool = True
    otherwise: str | None = None

    def reported_in(self, scores: Collection[str]) -> "Metric":
        """The metric under the key that a report of these keys has."""
        return self._replace(name=self.otherwise) if self.otherwise and self.name not in scores else self


class TorchTask(NamedTuple):
    """How `bertjax.baselines` calls transformers' class of a task, and reads it. Data only: torch is imported there.

    The torch counterparts of the loss and the scores follow from the task's own (`baselines.torch.torch_losses`).

    Attributes:
      outputs: fields of the module's output that hold the logits. Two of them are start and end of a span, or, where
        `Task.labels_of` is `Pretraining`, its two tasks. None: the pooled hidden states are read instead.
      label_arguments: arguments of its `forward` that take the labels, one for each of `outputs`; none where
        transformers has no loss of the task.
      grouped_inputs: whether it takes [N, C, T] for the C texts of an example, rather than [N C, T].
      num_labels: of a new head in a parity check.
      num_texts: C of the examples of a parity check.
      vanishing_gradients: pattern of Hugging Face's parameter names, with `{last}` for the last layer's number -> why
        their gradient is zero in exact arithmetic. There are some where a number added to all scores changes nothing.
      no_trainer: why transformers' Trainer cannot train on bertjax's examples; None where it can.
    """

    outputs: tuple[str, ...] = ("logits",)
    label_arguments: tuple[str, ...] = ("labels",)
    grouped_inputs: bool = False
    num_labels: int = 3
    num_texts: int = 1
    vanishing_gradients: Mapping[str, str] = {}
    no_trainer: str | None = None


class Task(NamedTuple):
    """A task: its head, loss, metric, table format, evaluation, postprocessing, and counterpart in transformers.

    Attributes:
      head: (config, batch, options) -> BertOutput, in a Haiku transform.
      loss: (output, batch) -> losses of the shape of the batch's weights; None if the task is not trained.
      soft_loss: (output, batch, temperature) -> the distillation loss against a teacher's `scores`, of the same shape;
        None if the task has no distillation.
      tempered: whether the soft loss has a temperature, as for probabilities.
      metric: says which of two models is better; None if the task is not trained.
      architecture: transformers' class, for `config.json`: BERT's, or the name that it would have if BERT had the head.
      pipeline_tag: the Hugging Face hub's tag for such models, if there is one.
      head_modules: Haiku paths of the modules that a bare encoder's checkpoint lacks.
      labels_of: whether labels are per example or per token; a pair for the two tasks of pre-training.
      scores_of: whether `scores` are per example or per token; a span is labelled per example and scored per token.
      names: whether the labels have names, one per output of the head.
      standardizes: whether the labels are numbers that may be standardised. The head is a single linear module then,
        into which their scale is folded.
      pooling: "chosen" by the user, fixed to one, or None if the head reads tokens.
      float32_modules: Haiku paths of modules whose parameters stay float32 in mixed precision.
      reads_words: whether the head reads the word embeddings, like a tied decoder. If not, words that occur in no text
        have zero gradient, and a run need not compute it.
      unit_vectors: whether the head scales the pooled vector to length 1.
      problem_type: transformers' `problem_type`, for classes with several losses.
      scores: (output, batch) -> what evaluation and inference read, [B, E, ...], [B, G, ...] or [B, T, ...].
      format: how rows of a table become labelled examples; None if the task reads no tables.
      evaluator: (scores, examples, label names) -> report; None without a format.
      target: what a row is labelled with, if simple baselines can learn it.
      postprocess: scores -> answers; None if the task has no answer for a whole text.
      probabilities: (scores, divided by the temperature) -> probabilities [N, L] of an example's labels, which are
        indices [N] or flags [N, L]; None for scores of tokens, or of no labels.
      torch: how to use transformers' model of the task; None if there is none to compare with.
    """

    head: Callable[[HeadConfig, Batch, ForwardOptions], BertOutput]
    loss: Loss | None
    metric: Metric | None
    architecture: str
    pipeline_tag: str | None
    head_modules: tuple[str, ...] = ()
    labels_of: LabelsOf | Pretraining = "examples"
    scores_of: LabelsOf | Pretraining = "examples"
    names: bool = False
    standardizes: bool = False
    pooling: Literal["chosen", "pooler", "mean"] | None = "pooler"
    float32_modules: tuple[str, ...] = ()
    reads_words: bool = True
    unit_vectors: bool = False
    problem_type: str | None = None
    scores: Callable[[BertOutput, Batch], Any] = losses.logits
    format: TaskFormat | None = None
    evaluator: Evaluator | None = None
    target: Target | None = None
    postprocess: Postprocess | None = None
    probabilities: Callable[[np.ndarray], np.ndarray] | None = None
    torch: TorchTask | None = None
    soft_loss: SoftLoss | None = None
    tempered: bool = False
