"""The input of a run: rows split and tokenized, network and weights loaded, shapes chosen, all of it checked."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from bertjax.config import BertConfig, read_config_json
from bertjax.data.batching.batch_plan import plan_training
from bertjax.data.batching.collate import BatchSource, StoredBatches
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.tokenize import load_tokenizer
from bertjax.data.rows.data_report import DataReport
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.rows.preprocessing import Preprocessing
from bertjax.data.split.class_balance import class_weights, oversampled
from bertjax.data.split.read_splits import Splits, preprocessing_of, read_splits
from bertjax.data.streaming.disk_store import StoredExamples
from bertjax.data.streaming.stream_splits import StreamedSplits, stream_splits
from bertjax.data.table import Side, Table
from bertjax.data.task_formats import Encoding, TaskFormat
from bertjax.errors import ConfigError
from bertjax.losses import cross_entropy
from bertjax.model_folder import from_pretrained
from bertjax.pretrained.files import resolve_model
from bertjax.tasks import TASKS, Model, Params, find_format, make_model
from bertjax.tracking.tracker import Dataset
from bertjax.training.run.environment import weights_digest
from bertjax.training.settings.finetune_config import FineTuneConfig

logger = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """What a run starts from.

    Attributes:
      train: the batches to train on.
      model: with the label vocabulary and the dropout rates of the run.
      params: pretrained, the head fresh unless the checkpoint was trained on the same labels.
      preprocessing: of the rows that it was trained on.
      table: the settings that were followed, with the columns that were found.
      data_report: what was read, dropped and removed on the way.
      datasets: which rows are used for what.
      weights: digest of those that the run starts from.
    """

    train: BatchSource
    validation: Examples | None
    test: Examples
    model: Model
    params: Params
    tokenizer: PreTrainedTokenizerBase
    preprocessing: Preprocessing
    table: Table
    data_report: DataReport
    datasets: tuple[Dataset, ...]
    weights: str


def prepare(config: FineTuneConfig, num_devices: int) -> Prepared:
    """Reads and checks everything that a run needs; writes nothing.

    Raises:
      UserError: whatever is wrong with the table, the model or the settings.
    """
    task_format = find_format(config.task)
    _check_loss(config, task_format)
    folder = resolve_model(config.model)
    positions = BertConfig.from_hugging_face(read_config_json(folder)).max_position_embeddings
    if config.max_length > positions:
        raise ConfigError(f"--max-length {config.max_length} is above the {positions} positions of {config.model}")
    tokenizer = load_tokenizer(folder)
    splits = (
        stream_splits(config.data, task_format, folder, len(tokenizer), config.max_length, config.masking, config.seed)
        if config.data.reader == "ray"
        else read_splits(config.data, task_format)
    )
    table, vocabulary = splits.table, splits.vocabulary
    model, params = from_pretrained(
        str(folder),
        task=config.task,
        labels=vocabulary or None,
        new_head=True,
        pooling=config.pooling,
        seed=config.seed,
        init_missing=config.init_missing,
        drop=config.drop,
        execution=config.execution,
    )
    model = _with_dropout(model, config.dropout_rate)
    encoding = Encoding(tokenizer, vocabulary, config.max_length, table, masking=config.masking, seed=config.seed)

    def judging(rows: Rows | StoredExamples, source: str) -> Examples:
        if isinstance(rows, Rows):
            return task_format.encode(rows, source, encoding).fixed(table.split_seed)
        return rows.take(np.arange(rows.num_examples)).fixed(table.split_seed)

    validation = None if splits.validation is None else judging(splits.validation, table.validation or table.train)
    test = judging(splits.test, table.test or table.train)
    train: Examples | StoredExamples
    if isinstance(splits, StreamedSplits):
        train = _balanced_stream(config, splits.train, vocabulary)
    else:
        train = _balanced(
            config, splits.train, lambda rows: task_format.encode(rows, table.train, encoding), vocabulary
        )
    plan = plan_training(
        train.lengths,
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        hidden_size=model.config.hidden_size,
        num_devices=num_devices * config.accumulate,
        packed=config.packing == "on",
        kind=train.kind,
    )
    logger.info(
        "%s: %d training examples (%d duplicate rows dropped), %d test examples%s",
        table.train, train.num_examples, splits.data_report.duplicates, test.num_examples,
        f", {len(vocabulary)} labels: {', '.join(vocabulary)}" if vocabulary else "",
    )  # fmt: skip
    logger.info(
        "%.1f tokens an example on average, %d at most, %d cut to %d; batches of %s",
        train.lengths.mean(), train.lengths.max(), train.truncated, config.max_length,
        " or ".join(f"{layout.rows} x {layout.row_length} tokens" for layout in plan.layouts),
    )  # fmt: skip
    batches, datasets = StoredBatches(train, plan), _datasets(splits)
    return Prepared(
        batches,
        validation,
        test,
        model,
        params,
        tokenizer,
        preprocessing_of(table),
        table,
        splits.data_report,
        datasets,
        weights_digest(folder),
    )


def _datasets(splits: Splits | StreamedSplits) -> tuple[Dataset, ...]:
    """The rows of each side, as they are used: cleaned, split, without duplicates and leaks."""
    table = splits.table

    sides: tuple[tuple[Side, str, Rows | StoredExamples | None], ...] = (
        ("train", table.train, splits.train),
        ("validation", table.validation or table.train, splits.validation),
        ("test", table.test or table.train, splits.test),
    )

    def dataset(side: Side, source: str, rows: Rows | StoredExamples) -> Dataset:
        where = str(Path(source).absolute()) if Path(source).exists() else source
        if isinstance(rows, Rows):
            return Dataset(side, where, rows.digest(), len(rows.texts))
        assert isinstance(splits, StreamedSplits)
        return Dataset(side, where, splits.digests[side], rows.num_examples)

    return tuple(dataset(side, source, rows) for side, source, rows in sides if rows is not None)


def _check_loss(config: FineTuneConfig, task_format: TaskFormat) -> None:
    settings = config.imbalance
    if (settings.class_weights or settings.oversample) and not task_format.classes:
        name = "--class-weights" if settings.class_weights else "--oversample"
        raise ConfigError(f"{name} is for rows of one class each, which {config.task} does not have; leave it out")
    of_cross_entropy = {
        "--label-smoothing": settings.label_smoothing,
        "--focal-gamma": settings.focal_gamma,
        "--r-drop": config.regularization.r_drop,
    }
    given = [flag for flag, value in of_cross_entropy.items() if value]
    if given and TASKS[config.task].loss is not cross_entropy:
        raise ConfigError(f"{given[0]} changes a cross-entropy, which {config.task} does not learn by; leave it out")


def _balanced(
    config: FineTuneConfig, rows: Rows, examples_of: Callable[[Rows], Examples], vocabulary: tuple[str, ...]
) -> Examples:
    """The training examples, with what is done about classes of very different size."""
    settings = config.imbalance
    if settings.oversample:
        rows = rows.take(oversampled(rows.labels, config.seed))
    examples = examples_of(rows)
    if not settings.class_weights:
        return examples
    weights = class_weights(settings.class_weights, rows.labels, vocabulary or sorted(set(rows.labels)))
    return examples._replace(weights=np.array([weights[label] for label in rows.labels], np.float32))


def _balanced_stream(config: FineTuneConfig, examples: StoredExamples, vocabulary: tuple[str, ...]) -> StoredExamples:
    """The streamed examples, with what is done about classes of very different size."""
    settings = config.imbalance
    if not settings.oversample and not settings.class_weights:
        return examples
    assert isinstance(examples.labels, np.ndarray)  # one class a row
    names = vocabulary or tuple(map(str, range(int(examples.labels.max()) + 1)))
    if settings.oversample:
        by_name = sorted(range(len(names)), key=names.__getitem__)
        examples = examples.at(oversampled(np.argsort(by_name)[examples.labels], config.seed))
    if not settings.class_weights:
        return examples
    labels = np.asarray(examples.labels)
    weights = class_weights(settings.class_weights, [names[label] for label in labels], names)
    return examples.weighted(np.array([weights[name] for name in names], np.float32)[labels])


def _with_dropout(model: Model, rate: float | None) -> Model:
    if rate is None:
        return model
    changed = model.config.with_dropout(rate)
    return make_model(changed, model.task, model.labels, model.pooling)
