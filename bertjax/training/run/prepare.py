"""Prepares the input of a run: splits and tokenizes rows, loads the network, plans the batches, and checks it all."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from bertjax import catalog
from bertjax.batch import Batch
from bertjax.config import BertConfig, read_config_json
from bertjax.data.batching.batch_plan import Plan, plan_training
from bertjax.data.batching.collate import StoredBatches
from bertjax.data.encode.examples import Examples, ExampleStore
from bertjax.data.encode.pretrained_tokenizer import added_tokens, check_tokenizer, load_tokenizer, num_entries
from bertjax.data.encode.token_checks import check_segments, warn_of_unknown
from bertjax.data.read.catalog_tables import in_catalog
from bertjax.data.rows.preprocessing import Preprocessing
from bertjax.data.split.class_balance import balance_classes
from bertjax.data.split.labelled_table import count_of, preprocessing_of
from bertjax.data.split.read_splits import Split, Splits, encode_splits, read_splits
from bertjax.data.streaming.stream_splits import stream_splits
from bertjax.data.table import Side, Table
from bertjax.data.task_formats import Encoding, TaskFormat
from bertjax.data.validate.data_report import DataReport
from bertjax.devices.data_parallel import Devices
from bertjax.errors import ConfigError, DataError
from bertjax.evaluation.judgement import Looks
from bertjax.evaluation.look_settings import ExplainedMistakes, IntervalSettings
from bertjax.evaluation.simple_models.beside_report import check_simple_models, check_training_rows
from bertjax.evaluation.simple_models.simple_model import Labelled
from bertjax.evaluation.slices.slice_settings import SliceSettings
from bertjax.losses import cross_entropy
from bertjax.model_folder.load_checkpoint import load_checkpoint
from bertjax.pretrained.files import resolve_model, weights_digest
from bertjax.settings import LONGEST
from bertjax.stage_progress import UNSHOWN, StageProgress
from bertjax.tasks import TASKS, Model, Params, find_format, make_model
from bertjax.tracking.tracker import Dataset
from bertjax.training.run.target_scale import TargetScale
from bertjax.training.run.teacher import load_teacher, taught
from bertjax.training.run.teacher_states import TeacherStates, teacher_states
from bertjax.training.settings.finetune_config import FineTuneConfig

logger = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """The input of a run."""

    train: StoredBatches
    validation: Examples | None
    test: Examples
    model: Model  # with the label vocabulary and the dropout rates of the run
    params: Params  # pretrained; the head is fresh unless the checkpoint was trained on the same labels
    target_scale: TargetScale | None  # of the training labels, where they are standardised
    tokenizer: PreTrainedTokenizerFast
    preprocessing: Preprocessing  # the steps that the training rows went through
    table: Table  # settings, with the columns that were found
    data_report: DataReport
    datasets: tuple[Dataset, ...]  # source and digest of the rows of each side
    weights: str  # digest of the pretrained weights
    test_rows: Split[Examples]  # whose examples are `test`
    learned: Labelled | None  # the training rows, where simple models learn from them
    looks: Looks  # at the test rows
    teacher: str | None = None  # digest of the teacher
    teacher_states: TeacherStates | None = None  # where its hidden states are learned from

    def in_units(self, params: Params) -> Params:
        """Trained parameters as they are evaluated and saved: their outputs are in the units of the table."""
        return params if self.target_scale is None else self.target_scale.folded(params)

    def taught(self, devices: Devices) -> Callable[[Batch], Batch]:
        """Rows on their devices -> the same with a teacher's hidden states, where the run learns from them; each call
        places the teacher's parameters anew."""
        return (lambda rows: rows) if self.teacher_states is None else self.teacher_states.placed(devices)


def prepare(
    config: FineTuneConfig, num_devices: int = 1, progress: StageProgress = UNSHOWN, platform: str = "cpu"
) -> Prepared:
    """Reads and checks everything that a run needs; writes nothing.

    Args:
      config: of the run.
      num_devices: the rows of a batch are a multiple of it.
      progress: shows the stages.
      platform: JAX's name of the kind of device ("cpu", "gpu", "tpu"), which decides the length of packed rows.

    Raises:
      UserError: a mistake in the table, the model or the settings.
    """
    task_format = find_format(config.task)
    _check_loss(config, task_format)
    check_simple_models(config.simple_models, config.task, config.model)
    looks = _looks(config)
    looks.check(config.task)
    teacher = load_teacher(config, progress)
    folder = resolve_model(config.model, progress)
    architecture = BertConfig.from_hugging_face(read_config_json(folder))
    tokenizer = load_tokenizer(folder)
    check_tokenizer(tokenizer, folder, architecture, config.resize_embeddings)
    _check_length(config, architecture, tokenizer)
    encoding = Encoding(tokenizer, (), config.max_length, config.data, config.masking, config.seed, progress)
    for source in filter(in_catalog, (config.data.train, *config.data.evaluated.values())):
        catalog.fetch(source, progress)
    splits = _read_rows(config, task_format, encoding, folder)
    learned = _learned(config, splits)
    states = None if teacher is None else teacher_states(teacher, config, architecture, tokenizer, splits.train)
    examples = splits.train.examples if teacher is None else taught(teacher, config, splits)
    train, target_scale = _standardized(config, examples, splits.vocabulary)
    check_segments(splits.test.examples, architecture, splits.test.source)
    vocab_size = max(num_entries(tokenizer), architecture.vocab_size)
    model, params = _load_model(config, folder, splits.vocabulary, vocab_size, target_scale)
    imbalance = config.imbalance
    train = balance_classes(train, splits.vocabulary, imbalance.class_weights, imbalance.oversample, config.seed)
    plan = _plan(config, train, model, num_devices, progress, platform)
    _log(splits, train, plan, config.max_length)
    _log_tokens(splits, tokenizer, architecture)
    return Prepared(
        train=StoredBatches(train, plan),
        validation=splits.validation.examples if splits.validation else None,
        test=splits.test.examples,
        model=model,
        params=params,
        target_scale=target_scale,
        tokenizer=tokenizer,
        preprocessing=preprocessing_of(splits.table),
        table=splits.table,
        data_report=splits.data_report,
        datasets=_datasets(splits),
        weights=weights_digest(folder),
        test_rows=splits.test,
        learned=learned,
        looks=looks,
        teacher=None if teacher is None else teacher.digest,
        teacher_states=states,
    )


def _looks(config: FineTuneConfig) -> Looks:
    settings = config.judging
    return Looks(
        IntervalSettings(settings.intervals),
        SliceSettings(automatic_slices=settings.automatic_slices),
        settings.label_issues,
        ExplainedMistakes(settings.explain),
    )


def _check_loss(config: FineTuneConfig, task_format: TaskFormat) -> None:
    settings = config.imbalance
    if (settings.class_weights or settings.oversample) and not task_format.classes:
        name = "--class-weights" if settings.class_weights else "--oversample"
        raise ConfigError(f"{name} is for rows of one class each, which {config.task} does not have; leave it out")
    if settings.focal_gamma and config.data.label_probabilities is not None:
        raise ConfigError(
            "--focal-gamma weighs how wrong an answer is, and with --label-probabilities none is right or wrong; leave "
            "one out"
        )
    of_cross_entropy = {
        "--label-smoothing": settings.label_smoothing,
        "--focal-gamma": settings.focal_gamma,
        "--r-drop": config.regularization.r_drop,
    }
    flags = [flag for flag, value in of_cross_entropy.items() if value]
    if flags and TASKS[config.task].loss is not cross_entropy:
        raise ConfigError(f"{flags[0]} changes a cross-entropy, which {config.task} does not learn by; leave it out")


def _check_length(config: FineTuneConfig, architecture: BertConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    positions = architecture.max_length
    if config.max_length > positions:
        raise ConfigError(f"--max-length {config.max_length} is above the {positions} positions of {config.model}")
    if config.max_length > tokenizer.model_max_length:
        logger.warning(
            "--max-length %d is above %d, the tokenizer's model_max_length: %s may not have learned further positions",
            config.max_length, tokenizer.model_max_length, config.model,
        )  # fmt: skip


def _read_rows(config: FineTuneConfig, task_format: TaskFormat, encoding: Encoding, folder: Path) -> Splits:
    if config.data.reader == "ray":
        if config.simple_models.beside:
            raise ConfigError("--beside needs all rows in memory; leave --reader ray out")
        streamed = stream_splits(config.data, task_format, encoding, tokenizer=folder)
        _check_sides(config, streamed.validation and streamed.validation.num_rows, streamed.test.num_rows)
        return streamed
    rows = read_splits(config.data, task_format)
    _check_sides(config, rows.validation and len(rows.validation.texts), len(rows.test.texts))
    return encode_splits(rows, task_format, encoding)


def _learned(config: FineTuneConfig, splits: Splits) -> Labelled | None:
    """The rows that simple models learn from; None where the settings name none."""
    settings, train = config.simple_models, splits.train
    if not settings.beside:
        return None
    assert train.rows is not None, "no rows of a stream"
    assert isinstance(train.examples, Examples), "rows in memory have examples in memory"
    learned = Labelled(train.rows, train.examples)
    check_training_rows(settings, config.task, splits.vocabulary, learned, train.source)
    return learned


def _check_sides(config: FineTuneConfig, num_validation: int | None, num_test: int) -> None:
    """Checks that there are rows to evaluate on: a row with the only example of a label is never held out."""
    for side, count in (("validation", num_validation), ("test", num_test)):
        if count == 0:
            raise DataError(
                f"{config.data.train}: each row that the split would hold out for {side} has the only example of a "
                f"label; add rows, or give a --{side} table"
            )


def _standardized(
    config: FineTuneConfig, examples: ExampleStore, names: Sequence[str]
) -> tuple[ExampleStore, TargetScale | None]:
    """The training examples, with standardised labels and their scale where the task has numbers."""
    task = TASKS[config.task]
    if not (task.standardizes and config.standardize_targets):
        return examples, None
    scale = TargetScale.of(task.head_modules[0], examples.labels)
    for name, mean, deviation in zip(names, scale.mean, scale.deviation, strict=True):
        logger.info("learning %s in standard deviations of %.6g from the mean %.6g", name, deviation, mean)
    if isinstance(examples, Examples) and examples.teacher_scores is not None:
        examples = examples._replace(teacher_scores=scale.standardized(examples.teacher_scores))
    return examples.labelled(scale.standardized(examples.labels)), scale


def _load_model(
    config: FineTuneConfig,
    folder: Path,
    vocabulary: tuple[str, ...],
    vocab_size: int,
    target_scale: TargetScale | None,
) -> tuple[Model, Params]:
    model, params, initialised = load_checkpoint(
        str(folder),
        task=config.task,
        labels=vocabulary or None,
        new_head=True,
        pooling=config.pooling,
        seed=config.seed,
        init_missing=config.init_missing,
        drop=config.drop,
        execution=config.execution,
        vocab_size=vocab_size,
    )
    if config.dropout_rate is not None:
        model = make_model(model.config.with_dropout(config.dropout_rate), model.task, model.labels, model.pooling)
    if target_scale is not None and target_scale.module not in initialised:
        params = target_scale.unfolded(params)
    return model, params


def _plan(
    config: FineTuneConfig,
    train: ExampleStore,
    model: Model,
    num_devices: int,
    progress: StageProgress,
    platform: str,
) -> Plan:
    steps = -(-train.num_examples // config.batch_size)
    if config.epochs * steps > LONGEST:
        raise ConfigError(f"--epochs {config.epochs} of {steps} steps each are more than the {LONGEST} a run counts")
    return plan_training(
        train.lengths,
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        hidden_size=model.config.hidden_size,
        num_devices=num_devices * config.accumulate,
        packed=config.packing == "on",
        kind=train.kind,
        progress=progress,
        platform=platform,
    )


def _log(splits: Splits, train: ExampleStore, plan: Plan, max_length: int) -> None:
    labels, report = splits.vocabulary, splits.data_report
    if report.emptied:
        logger.info("the preprocessing left no text in %d rows, which were dropped", report.emptied)
    for what, count in report.losses().items():
        logger.warning("%d %s", count, what)
    logger.info(
        "%s: %d training examples (%d duplicate rows dropped), %d test examples%s",
        splits.train.source, train.num_examples, report.duplicates, splits.test.examples.num_examples,
        f", {count_of(len(labels), 'label')}: {', '.join(labels)}" if labels else "",
    )  # fmt: skip
    if splits.table.label_probabilities is not None:
        _log_probabilities(splits, train)
    logger.info(
        "%.1f tokens an example on average, %d at most, %d cut to %d; batches of %s",
        train.lengths.mean(), train.lengths.max(), train.truncated, max_length,
        " or ".join(f"{layout.rows} x {layout.row_length} tokens" for layout in plan.layouts),
    )  # fmt: skip


def _log_probabilities(splits: Splits, train: ExampleStore) -> None:
    logger.info(
        "learning the probabilities of the labels; the most probable one has %.3f on average",
        train.labels.max(axis=1).mean(),
    )
    if splits.table.test is None:
        logger.warning(
            "%s: the test rows are held out of rows with probabilities, and judged by their most probable labels; "
            "--test names rows whose labels are known",
            splits.test.source,
        )


def _log_tokens(splits: Splits, tokenizer: PreTrainedTokenizerFast, architecture: BertConfig) -> None:
    if added := added_tokens(tokenizer, architecture.vocab_size):
        logger.info(
            "the word embeddings have %d new rows, near the mean of the %d others: %s",
            len(added), architecture.vocab_size, ", ".join(added),
        )  # fmt: skip
    sides: dict[str, Split | None] = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    for side, split in sides.items():
        if split:
            warn_of_unknown(tokenizer, split.examples, f"{split.source} ({side} rows)")


def _datasets(splits: Splits) -> tuple[Dataset, ...]:
    """The rows of each side after cleaning and splitting, as the tracker records them."""
    sides: dict[Side, Split | None] = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    datasets = []
    for side, split in sides.items():
        if split:
            path = Path(split.source)
            source = str(path.absolute()) if path.exists() else split.source
            datasets.append(Dataset(side, source, split.digest, split.num_rows))
    return tuple(datasets)
