"""`TASKS`: the table of all tasks. No other code branches on the name of a task."""

from typing import TypeVar

from bertjax import losses
from bertjax.batch import Pretraining
from bertjax.data.task_formats import TaskFormat
from bertjax.data.task_formats.answer_format import QUESTION_ANSWERING
from bertjax.data.task_formats.group_formats import MULTIPLE_CHOICE, SENTENCE_EMBEDDING
from bertjax.data.task_formats.masked_lm_format import MASKED_LM
from bertjax.data.task_formats.sequence_formats import CLASSIFICATION, MULTI_LABEL, NEXT_SENTENCE, REGRESSION
from bertjax.data.task_formats.token_format import TOKEN_CLASSIFICATION
from bertjax.errors import ConfigError
from bertjax.metrics import evaluators
from bertjax.metrics.answer_report import answer_report
from bertjax.metrics.reports import Evaluator
from bertjax.metrics.tag_report import tag_report
from bertjax.model import heads
from bertjax.settings import require_known
from bertjax.tasks import postprocess, text_answers
from bertjax.tasks.postprocess import Postprocess
from bertjax.tasks.readout import Readout, vectors
from bertjax.tasks.task import Metric, Task, TorchTask

_MASKED_LM_MODULES = ("masked_lm", "masked_lm/transform", "masked_lm/norm")
_BOTH = Pretraining(masked_lm="tokens", next_sentence="examples")
_SHARED_BY_TOKENS = "adds one number to the scores of all tokens"

_CLASSIFICATION = Task(
    head=heads.classification,
    reads_words=False,
    loss=losses.cross_entropy,
    metric=Metric("f1_macro"),
    architecture="BertForSequenceClassification",
    pipeline_tag="text-classification",
    head_modules=("classifier",),
    names=True,
    pooling="chosen",
    problem_type="single_label_classification",
    format=CLASSIFICATION,
    evaluator=evaluators.evaluate_classes,
    target="class",
    postprocess=postprocess.CLASS,
    probabilities=postprocess.softmax,
    torch=TorchTask(),
    soft_loss=losses.soft_cross_entropy,
    tempered=True,
)

TASKS: dict[str, Task] = {
    "encoder": Task(
        head=heads.encoder,
        reads_words=False,
        loss=None,
        metric=None,
        architecture="BertModel",
        pipeline_tag="feature-extraction",
        pooling="chosen",
        torch=TorchTask(outputs=(), label_arguments=()),
    ),
    "classification": _CLASSIFICATION,
    "multi_label": _CLASSIFICATION._replace(
        loss=losses.binary_cross_entropy,
        metric=Metric("f1_micro"),
        problem_type="multi_label_classification",
        format=MULTI_LABEL,
        evaluator=evaluators.evaluate_label_sets,
        target="labels",
        postprocess=postprocess.LABEL_SET,
        probabilities=postprocess.logistic,
        soft_loss=losses.soft_binary_cross_entropy,
    ),
    "regression": _CLASSIFICATION._replace(
        head=heads.regression,
        standardizes=True,
        float32_modules=("classifier",),
        loss=losses.squared_error,
        metric=Metric("mse", greater_is_better=False),
        problem_type="regression",
        format=REGRESSION,
        evaluator=evaluators.evaluate_numbers,
        target="numbers",
        postprocess=postprocess.NUMBERS,
        probabilities=None,
        torch=TorchTask(num_labels=1),
        soft_loss=losses.soft_squared_error,
        tempered=False,
    ),
    "token_classification": Task(
        head=heads.token_classification,
        reads_words=False,
        loss=losses.cross_entropy,
        metric=Metric("f1", otherwise="accuracy"),
        architecture="BertForTokenClassification",
        pipeline_tag="token-classification",
        head_modules=("classifier",),
        labels_of="tokens",
        scores_of="tokens",
        names=True,
        pooling=None,
        format=TOKEN_CLASSIFICATION,
        evaluator=tag_report,
        target="word_labels",
        postprocess=text_answers.WORD_LABELS,
        torch=TorchTask(),
        soft_loss=losses.soft_cross_entropy,
        tempered=True,
    ),
    "question_answering": Task(
        head=heads.question_answering,
        reads_words=False,
        loss=losses.span_cross_entropy,
        metric=Metric("f1"),
        architecture="BertForQuestionAnswering",
        pipeline_tag="question-answering",
        head_modules=("qa_outputs",),
        scores_of="tokens",
        pooling=None,
        format=QUESTION_ANSWERING,
        evaluator=answer_report,
        postprocess=text_answers.ANSWER,
        torch=TorchTask(
            outputs=("start_logits", "end_logits"),
            label_arguments=("start_positions", "end_positions"),
            vanishing_gradients={
                r"qa_outputs\.bias": _SHARED_BY_TOKENS,
                r"bert\.encoder\.layer\.{last}\.output\.LayerNorm\.bias": _SHARED_BY_TOKENS,
            },
        ),
    ),
    "multiple_choice": Task(
        head=heads.multiple_choice,
        reads_words=False,
        loss=losses.cross_entropy,
        metric=Metric("accuracy"),
        architecture="BertForMultipleChoice",
        pipeline_tag="multiple-choice",
        head_modules=("classifier",),
        format=MULTIPLE_CHOICE,
        evaluator=evaluators.evaluate_choices,
        postprocess=postprocess.CHOICE,
        probabilities=postprocess.softmax,
        torch=TorchTask(
            grouped_inputs=True,
            num_texts=3,
            vanishing_gradients={r"classifier\.bias": "adds one number to the scores of all candidates"},
        ),
        soft_loss=losses.soft_cross_entropy,
        tempered=True,
    ),
    "next_sentence": Task(
        head=heads.next_sentence,
        reads_words=False,
        loss=losses.cross_entropy,
        metric=Metric("accuracy"),
        architecture="BertForNextSentencePrediction",
        pipeline_tag="text-classification",
        head_modules=("next_sentence",),
        format=NEXT_SENTENCE,
        evaluator=evaluators.evaluate_next_sentence,
        target="class",
        postprocess=postprocess.NEXT_SENTENCE,
        probabilities=postprocess.softmax,
        torch=TorchTask(),
        soft_loss=losses.soft_cross_entropy,
        tempered=True,
    ),
    "masked_lm": Task(
        head=heads.masked_lm,
        loss=losses.cross_entropy,
        metric=Metric("loss", greater_is_better=False),
        architecture="BertForMaskedLM",
        pipeline_tag="fill-mask",
        head_modules=_MASKED_LM_MODULES,
        labels_of="tokens",
        scores_of="tokens",
        pooling=None,
        scores=losses.masked_words,
        format=MASKED_LM,
        evaluator=evaluators.evaluate_masked_words,
        postprocess=text_answers.MASKED_WORDS,
        torch=TorchTask(
            no_trainer="the Trainer hides other words than bertjax; compare masked_lm with --frameworks jax torch"
        ),
    ),
    "pretraining": Task(
        head=heads.pretraining,
        loss=losses.pretraining_cross_entropy,
        metric=Metric("loss", greater_is_better=False),
        architecture="BertForPreTraining",
        pipeline_tag="fill-mask",
        head_modules=(*_MASKED_LM_MODULES, "next_sentence"),
        labels_of=_BOTH,
        scores_of=_BOTH,
        postprocess=text_answers.MASKED_WORDS,
        torch=TorchTask(
            outputs=("prediction_logits", "seq_relationship_logits"),
            label_arguments=("labels", "next_sentence_label"),
        ),
    ),
    "replaced_tokens": Task(
        head=heads.replaced_tokens,
        reads_words=False,
        loss=losses.replaced_cross_entropy,
        metric=Metric("loss", greater_is_better=False),
        architecture="BertForReplacedTokens",
        pipeline_tag=None,
        head_modules=("replaced_tokens/transform", "replaced_tokens/prediction"),
        labels_of="tokens",
        scores_of="tokens",
        pooling=None,
        torch=TorchTask(),
    ),
    "sentence_embedding": Task(
        head=heads.sentence_embedding,
        reads_words=False,
        loss=losses.cosine_error,
        metric=Metric("spearman"),
        architecture="BertModel",
        pipeline_tag="sentence-similarity",
        pooling="mean",
        unit_vectors=True,
        scores=losses.cosine,
        format=SENTENCE_EMBEDDING,
        evaluator=evaluators.evaluate_cosines,
        postprocess=postprocess.COSINE,
        torch=TorchTask(
            outputs=(),
            label_arguments=(),
            num_texts=2,
            no_trainer="transformers has no loss for task 'sentence_embedding', so its Trainer cannot train it",
        ),
        soft_loss=losses.soft_cosine_error,
    ),
}

T = TypeVar("T")


def register_task(name: str, task: Task) -> None:
    """Adds a task. Every process that uses it must do so, such as a module that workers import.

    Raises:
      ConfigError: the name is taken, or the task's format goes by another.
    """
    if name in TASKS:
        raise ConfigError(f"task {name!r} is there already; register the new one under another name")
    if task.format is not None and task.format.task != name:
        raise ConfigError(f"task {name!r} has the format of task {task.format.task!r}; name the format after the task")
    TASKS[name] = task


def find_task(name: str) -> Task:
    """An entry of the table.

    Raises:
      ConfigError: there is none of that name.
    """
    return require_known("task", name, TASKS)


def find_format(name: str) -> TaskFormat:
    """How rows of a table become labelled examples of a task.

    Raises:
      ConfigError: the task is unknown, or bertjax reads no tables for it.
    """
    return _supervised(name, find_task(name).format)


def find_evaluator(name: str) -> Evaluator:
    """How scores of a task become a report.

    Raises:
      ConfigError: the task is unknown, or bertjax reads no tables for it.
    """
    return _supervised(name, find_task(name).evaluator)


def _supervised(name: str, part: T | None) -> T:
    if part is None:
        names = ", ".join(other for other, task in TASKS.items() if task.format is not None)
        raise ConfigError(f"task {name!r} cannot be fine-tuned or judged; bertjax has {names}")
    return part


def find_postprocess(name: str) -> Postprocess:
    """How scores of a task become answers in postprocess.

    Raises:
      ConfigError: the task is unknown, or says nothing of a whole text.
    """
    found = find_task(name).postprocess
    if found is None:
        names = ", ".join(other for other, task in TASKS.items() if task.postprocess is not None)
        raise ConfigError(f"a model of task {name!r} does not predict texts; those of {names} do")
    return found


def find_readout(name: str) -> Readout:
    """How the network of a task is read for its answers.

    Raises:
      ConfigError: the task is unknown, or says nothing of a whole text.
    """
    task, found = find_task(name), find_postprocess(name)
    if found.readout is not None:
        return found.readout
    assert task.format is not None, "its rows can be read"
    assert not isinstance(task.scores_of, Pretraining), "a task of two has a readout of its own"
    return Readout(task.head, task.scores, task.scores_of, task.format)


def find_vectors(name: str) -> Readout:
    """How the network of a task is read for one vector a text.

    Raises:
      ConfigError: the task is unknown, or its network makes none.
    """
    task = find_task(name)
    if task.pooling is None:
        raise ConfigError(f"a model of task {name!r} reads tokens, and makes no vector of a text")
    return vectors(task.format)


def find_torch_task(name: str) -> TorchTask:
    """How transformers' torch model of a task is called and read.

    Raises:
      ConfigError: the task is unknown, or there is no such model.
    """
    torch_task = find_task(name).torch
    if torch_task is None:
        raise ConfigError(f"task {name!r} has no PyTorch counterpart, so there is nothing to compare with")
    return torch_task
