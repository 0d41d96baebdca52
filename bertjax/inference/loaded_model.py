"""`LoadedModel`: a model folder in memory: network, weights, tokenizer, and how its training rows were read."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from bertjax.config import BertConfig, Execution, Pooling, read_config_json
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.pretrained_tokenizer import check_tokenizer, load_tokenizer
from bertjax.data.encode.token_checks import check_segments
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.rows.preprocessing import Preprocessing
from bertjax.data.table import Masking, Table
from bertjax.data.table_reading import TableReading
from bertjax.data.task_formats import Encoding, TaskFormat
from bertjax.errors import ConfigError
from bertjax.metrics.reliability import calibrated
from bertjax.metrics.reports import Report
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.stored_settings import (
    says_pooling,
    stored_max_length,
    stored_preprocessing,
    stored_reading,
    stored_task,
    stored_temperature,
)
from bertjax.pretrained.files import resolve_model
from bertjax.tasks import Model, Params, find_evaluator, find_format, find_postprocess, find_vectors
from bertjax.tasks.postprocess import AnswerOptions, Prediction


class LoadedModel(NamedTuple):
    """A model, its weights, and the settings of its training rows.

    Attributes:
      model: the network.
      params: its parameters, on the host.
      tokenizer: of its folder.
      preprocessing: of every text.
      max_length: longest example, in tokens.
      table: the settings by which training rows were read, without their sources.
      masking: how words were hidden.
      temperature: by which its logits are divided where they become probabilities.
      pooling_known: whether the folder, the task or the caller said how a text becomes one vector.
    """

    model: Model
    params: Params
    tokenizer: PreTrainedTokenizerFast
    preprocessing: Preprocessing = Preprocessing()
    max_length: int = 128
    table: Table = Table()
    masking: Masking = Masking()
    pooling_known: bool = True
    temperature: float = 1.0

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Scores of the network (`Task.scores`) over the temperature, where they are logits of labels: what
        probabilities, answers and metrics are made of. No label changes by it."""
        return calibrated(scores, self.temperature)

    def answers(self, scores: np.ndarray, rows: Rows, examples: Examples, options: AnswerOptions) -> list[Prediction]:
        """The answers that scores of the network say; arguments as of `tasks.postprocess.Answers`.

        Raises:
          ConfigError: the task says nothing of a whole text.
        """
        answers = find_postprocess(self.model.task).answers
        return answers(self.calibrated(scores), rows, examples, self.model.labels, options)

    def report(self, scores: np.ndarray, examples: Examples) -> Report:
        """How scores of the network compare with the labels of examples.

        Raises:
          ConfigError: the task cannot be evaluated.
        """
        return find_evaluator(self.model.task)(self.calibrated(scores), examples, self.model.labels)

    def encode(self, rows: Rows, source: str, task_format: TaskFormat | None = None) -> Examples:
        """Preprocessed rows as examples.

        Args:
          rows: one or more.
          source: named in errors.
          task_format: that of a `Readout`; default: the task's own.

        Raises:
          DataError: a label that training never saw, or whatever else the format cannot use.
          CheckpointError: pairs of texts, for a network of one segment.
        """
        encoding = Encoding(self.tokenizer, self.model.labels, self.max_length, self.table, self.masking)
        examples = (task_format or find_format(self.model.task)).encode(rows, source, encoding)
        check_segments(examples, self.model.config, source)
        return examples.fixed(self.table.split_seed)


def load_model(
    name: str | Path,
    execution: Execution | None = None,
    columns: Mapping[str, Any] | None = None,
    pooling: Pooling | None = None,
) -> LoadedModel:
    """Loads a model folder.

    Args:
      name: a folder such as `model/` of a run, a hub id, a name of the catalog, or `models:/NAME@ALIAS` of MLflow's
        registry.
      execution: how to run the network.
      columns: fields of `Table` that are others than in training.
      pooling: how a text becomes one vector, where the folder does not say so.

    Raises:
      UserError: there is no such model, or it does not fit.
    """
    folder = resolve_model(str(name))
    stored = read_config_json(folder)
    tokenizer, architecture = load_tokenizer(folder), BertConfig.from_hugging_face(stored)
    check_tokenizer(tokenizer, folder, architecture)
    if pooling is not None:
        find_vectors(stored_task(stored))
        if says_pooling(stored):
            raise ConfigError(f"{name} says itself how its vectors are pooled; leave out pooling {pooling!r}")
    model, params = from_pretrained(folder, pooling=pooling, execution=execution, vocab_size=architecture.vocab_size)
    preprocessing, reading = stored_preprocessing(stored), TableReading.of(stored_reading(stored))
    texts = {"text": preprocessing.text, "text_pair": preprocessing.text_pair} if preprocessing.text else {}
    return LoadedModel(
        model,
        params,
        tokenizer,
        preprocessing,
        stored_max_length(stored),
        replace(reading.data, **{**texts, **(columns or {})}),
        reading.masking,
        pooling is not None or says_pooling(stored),
        stored_temperature(stored),
    )
