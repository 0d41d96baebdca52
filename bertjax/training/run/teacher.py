"""Distillation from the outputs of a teacher, a model of the same task (Hinton et al. 2015, arXiv:1503.02531).

The teacher scores each training example once, before the first step, and its scores are stored with the examples. It
has no dropout, so they are the same in every epoch. It may have another tokenizer, maximum length and encoder than the
student.
"""

import hashlib
import json
import logging
from functools import partial
from typing import NamedTuple

import numpy as np

from bertjax.batch import UNLABELLED
from bertjax.config import read_config_json
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.pretrained_tokenizer import tokenizer_digest
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.rows.preprocessing import Preprocessing
from bertjax.data.split.labelled_table import preprocessing_of
from bertjax.data.split.read_splits import Splits
from bertjax.data.task_formats.token_format import NO_WORD
from bertjax.devices.data_parallel import all_devices
from bertjax.errors import CheckpointError, ConfigError
from bertjax.inference.loaded_model import LoadedModel, load_model
from bertjax.prediction.forward import Forward, predict
from bertjax.pretrained.files import resolve_model, weights_digest
from bertjax.stage_progress import StageProgress
from bertjax.tasks import TASKS
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Distillation

logger = logging.getLogger(__name__)


class Teacher(NamedTuple):
    """A teacher of a run.

    Attributes:
      name: as the settings have it.
      loaded: the model.
      digest: 16 hexadecimal digits that change with its weights, its tokenizer and its `config.json`.
    """

    name: str
    loaded: LoadedModel
    digest: str


def load_teacher(config: FineTuneConfig, progress: StageProgress) -> Teacher | None:
    """The teacher of a run; None where the settings name none.

    Args:
      config: the settings.
      progress: shows a download.

    Raises:
      UserError: there is no such model, it is of another task, or the task has no use for one.
    """
    settings, task = config.distillation, TASKS[config.task]
    if settings.teacher is None:
        return None
    if task.soft_loss is None:
        raise ConfigError(f"--teacher: {config.task} has no loss by a teacher's answers; leave it out")
    if not task.tempered and settings.teacher_temperature != Distillation.teacher_temperature:
        raise ConfigError(
            f"--teacher-temperature is of probabilities, and a teacher of {config.task} gives numbers; leave it out"
        )
    if config.data.reader == "ray":
        raise ConfigError("--teacher needs all rows in memory; leave --reader ray out")
    folder = resolve_model(settings.teacher, progress)
    loaded = load_model(folder, config.execution)
    if loaded.model.task != config.task:
        raise ConfigError(
            f"--teacher {settings.teacher} is of task {loaded.model.task!r}, and the run learns {config.task!r}; name "
            f"a model that was fine-tuned on this one"
        )
    parts = [weights_digest(folder), tokenizer_digest(loaded.tokenizer), read_config_json(folder)]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return Teacher(settings.teacher, loaded, digest)


def taught(teacher: Teacher, config: FineTuneConfig, splits: Splits) -> Examples:
    """The training examples with the scores of a teacher, its labels in the order of the run's.

    Where words are labelled, each has the scores of the same word, whatever pieces the two tokenizers make of it.

    Raises:
      UserError: a teacher of other labels or another preprocessing, texts that it cannot read, or scores that are not
        finite.
    """
    train, ours = splits.train, splits.train.examples
    assert train.rows is not None, "no rows of a stream"
    assert isinstance(ours, Examples), "rows in memory have examples in memory"
    _check_preprocessing(teacher, preprocessing_of(splits.table))
    columns = _columns(teacher, splits.vocabulary)
    theirs, scores = _answers(teacher, config, train.rows, train.source)
    if columns is not None:
        scores = scores[..., columns]
    if ours.labels_of == "examples":
        return ours._replace(teacher_scores=scores)
    found, words = _of_the_same_words(ours, theirs)
    teacher_scores = np.zeros((len(ours.token_ids), scores.shape[-1]), np.float32)
    teacher_scores[found] = scores[words]
    labels = np.where(found, ours.labels, UNLABELLED)
    if lost := int((labels != ours.labels).sum()):
        logger.warning(
            "%s: the tokenizer of the teacher %s makes nothing of %d labelled words, which the run does not learn",
            train.source, teacher.name, lost,
        )  # fmt: skip
    return ours._replace(labels=labels, teacher_scores=teacher_scores)


def _check_preprocessing(teacher: Teacher, ours: Preprocessing) -> None:
    """Raises ConfigError where the teacher was trained on texts that were changed in another way."""
    theirs = teacher.loaded.preprocessing
    if theirs.changing and (theirs.changing, theirs.stop_words) != (ours.changing, ours.stop_words):
        raise ConfigError(
            f"--teacher {teacher.name} was trained on texts after --steps {' '.join(theirs.changing)}, and the run has "
            f"{' '.join(ours.changing) or 'none'}; give the same steps and stop words"
        )


def _columns(teacher: Teacher, vocabulary: tuple[str, ...]) -> list[int] | None:
    """The place of each of our labels among the teacher's; None where they have no names.

    Raises:
      ConfigError: the teacher has others.
    """
    model = teacher.loaded.model
    if TASKS[model.task].standardizes and len(model.labels) == len(vocabulary) == 1:
        return [0]  # the only number, whatever its column is called
    if TASKS[model.task].names and set(model.labels) != set(vocabulary):
        raise ConfigError(
            f"--teacher {teacher.name} has the labels {_shown(model.labels)}, and the training rows "
            f"{_shown(vocabulary)}; name a model that was trained on these"
        )
    return [model.labels.index(name) for name in vocabulary] if TASKS[model.task].names else None


def _shown(names: tuple[str, ...]) -> str:
    shown = ", ".join(map(repr, names[:10]))
    return f"{shown} and {len(names) - 10} others" if len(names) > 10 else shown


def _answers(teacher: Teacher, config: FineTuneConfig, rows: Rows, source: str) -> tuple[Examples, np.ndarray]:
    """Rows as the teacher's examples, and its scores of them."""
    loaded, devices = teacher.loaded, all_devices(config.engine)
    examples = loaded.encode(rows, source)
    logger.info("the teacher %s answers %d training examples", teacher.name, examples.num_examples)
    forward = partial(Forward(devices, loaded.model), devices.place(loaded.params))
    scores = predict(forward, devices.count, loaded.model.task, examples)
    if not np.isfinite(scores).all():
        raise CheckpointError(f"--teacher {teacher.name} gives scores that are not finite; its weights are damaged")
    return examples, scores


def _of_the_same_words(ours: Examples, theirs: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Which of our tokens begin a word that one of theirs begins too ([total tokens] bool), and the places of these."""
    longest = max(int(ours.reference.max()), int(theirs.reference.max())) + 1

    def words_of(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
        """The tokens that begin a word, and a number for each of these words that says its row and its place there."""
        assert examples.row_of is not None
        places = np.flatnonzero(examples.reference != NO_WORD)
        rows = np.repeat(examples.row_of, examples.lengths)[places]
        return places, rows * longest + examples.reference[places]

    (our_places, our_words), (their_places, their_words) = words_of(ours), words_of(theirs)
    _, of_ours, of_theirs = np.intersect1d(our_words, their_words, assume_unique=True, return_indices=True)
    order = np.argsort(of_ours)
    found = np.zeros(len(ours.token_ids), bool)
    found[our_places[of_ours]] = True
    return found, their_places[of_theirs[order]]
