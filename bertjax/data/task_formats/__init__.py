"""Task formats: one row a task that says how the rows of its tables become labelled examples."""

from collections.abc import Mapping

from bertjax.data.task_formats.answer_format import QUESTION_ANSWERING
from bertjax.data.task_formats.group_formats import MULTIPLE_CHOICE, SENTENCE_EMBEDDING
from bertjax.data.task_formats.masked_lm_format import MASKED_LM
from bertjax.data.task_formats.sequence_formats import CLASSIFICATION, MULTI_LABEL, NEXT_SENTENCE, REGRESSION
from bertjax.data.task_formats.task_format import Encoding, TaskFormat
from bertjax.data.task_formats.token_format import TOKEN_CLASSIFICATION
from bertjax.errors import ConfigError

__all__ = ["FORMATS", "Encoding", "TaskFormat", "format_of"]

FORMATS: Mapping[str, TaskFormat] = {
    "classification": CLASSIFICATION,
    "multi_label": MULTI_LABEL,
    "regression": REGRESSION,
    "token_classification": TOKEN_CLASSIFICATION,
    "question_answering": QUESTION_ANSWERING,
    "multiple_choice": MULTIPLE_CHOICE,
    "next_sentence": NEXT_SENTENCE,
    "masked_lm": MASKED_LM,
    "sentence_embedding": SENTENCE_EMBEDDING,
}


def format_of(task: str) -> TaskFormat:
    """A row of the table.

    Raises:
      ConfigError: nothing can be fine-tuned for that task.
    """
    if task not in FORMATS:
        raise ConfigError(f"task {task!r} cannot be fine-tuned or judged; bertjax has {', '.join(FORMATS)}")
    return FORMATS[task]
