"""A teacher: its answers are transformers' own, the loss and its gradient those of torch, and a run is as any other."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
import torch
from torch.nn import functional
from transformers import AutoTokenizer

from bertjax.baselines.runners.frameworks import check_job
from bertjax.baselines.torch.torch_model import make_module
from bertjax.batch import UNLABELLED, Batch, empty_batch
from bertjax.data.encode.examples import Examples
from bertjax.data.table import Table
from bertjax.errors import ConfigError, Interrupted, RunFolderError
from bertjax.losses import Loss, SoftLoss
from bertjax.model.heads import BertOutput
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.pretrained.convert import to_haiku
from bertjax.tasks import TASKS, parameter_shapes, weight_table
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.prepare import prepare
from bertjax.training.run.prepared_run import loss_of
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Distillation, Imbalance, Judging, Optimizer
from bertjax.training.step.train_step import make_train_step
from tests.support.members import save_tokenizer, their_folder, their_model
from tests.support.tables import COLUMNS, TABLES
from tests.support.tracking import stop_after

NAMES = {
    "classification": ("z", "x", "y"),  # in another order than the rows'
    "multi_label": ("third", "odd"),
    "regression": ("stars",),
    "token_classification": ("O", "I-FILM", "B-FILM"),
}
WEIGHT, TEMPERATURE = 0.7, 3.0


def teacher_folder(folder: Path, task: str, model_type: str = "roberta", names: tuple[str, ...] = ()) -> Path:
    """A teacher as the hub has it, of another kind and tokenizer than the student."""
    module = their_model(model_type, task, 0.3, names or NAMES[task])
    module.save_pretrained(folder)
    save_tokenizer(model_type, folder)
    return folder


def config_of(student: Path, folder: Path, task: str, teacher: Path | None) -> FineTuneConfig:
    path = folder / f"{task}.jsonl"
    path.write_text("\n".join(map(json.dumps, TABLES[task])))
    temperature = {"teacher_temperature": TEMPERATURE} if TASKS[task].tempered else {}
    return FineTuneConfig(
        model=str(student),
        task=task,
        data=Table(str(path), test=str(path), leaks="report", **COLUMNS.get(task, {})),
        epochs=1,
        max_length=32,
        batch_size=16,
        dropout_rate=0.0,
        distillation=Distillation() if teacher is None else Distillation(str(teacher), WEIGHT, **temperature),
    )


@pytest.fixture
def config(tiny_model, tmp_path) -> FineTuneConfig:
    return config_of(tiny_model, tmp_path, "classification", teacher_folder(tmp_path / "teacher", "classification"))


# The soft losses, in torch and float64, of logits [N, L] and the teacher's.
def torch_divergence(student: Any, teacher: Any) -> Any:
    shares = functional.softmax(teacher / TEMPERATURE, -1)
    return TEMPERATURE**2 * functional.kl_div(
        functional.log_softmax(student / TEMPERATURE, -1), shares, reduction="none"
    ).sum(-1)


def torch_binary_divergence(student: Any, teacher: Any) -> Any:
    shares = torch.sigmoid(teacher / TEMPERATURE)
    cross = functional.binary_cross_entropy_with_logits(student / TEMPERATURE, shares, reduction="none")
    own = functional.binary_cross_entropy_with_logits(teacher / TEMPERATURE, shares, reduction="none")
    return TEMPERATURE**2 * (cross - own).mean(-1)


def torch_squared_error(student: Any, teacher: Any) -> Any:
    return (student - teacher).square().mean(-1)


IN_TORCH = {
    "classification": torch_divergence,
    "next_sentence": torch_divergence,
    "multiple_choice": torch_divergence,
    "token_classification": torch_divergence,
    "multi_label": torch_binary_divergence,
    "regression": torch_squared_error,
}


@pytest.mark.parametrize("task", IN_TORCH)
def test_the_loss_of_logits_is_that_of_torch(task):
    """For answers from unsure to certain, of 3e-20 and less among them."""
    rng = np.random.default_rng(0)
    student, teacher = (rng.normal(size=(2, 40, 3)) * np.geomspace(0.1, 30, 40)[:, None]).astype(np.float32)
    batch = empty_batch(1, 40, 40)._replace(teacher_scores=teacher[None])
    soft_loss = TASKS[task].soft_loss
    assert soft_loss is not None

    def total(soft_loss: SoftLoss, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        losses = soft_loss(BertOutput(logits, None, None, None), batch, TEMPERATURE)
        return losses.sum(), losses

    grads, losses = jax.grad(total, argnums=1, has_aux=True)(soft_loss, jax.numpy.asarray(student[None]))
    wide = torch.tensor(student.astype(np.float64), requires_grad=True)
    expected = IN_TORCH[task](wide, torch.tensor(teacher.astype(np.float64)))
    expected.sum().backward()
    np.testing.assert_allclose(losses[0], expected.detach(), rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(grads[0], wide.grad, rtol=2e-6, atol=2e-6)


def tokens_of(texts: list[str] | list[list[str]], folder: Path) -> Any:
    """Texts, or lists of words, as a tokenizer of transformers has them."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer(texts, is_split_into_words=not isinstance(texts[0], str), padding=True, return_tensors="pt")


def of_words(logits: Any, encoded: Any) -> Any:
    """The logits of each word's first piece, [words of all texts, L]."""
    found = []
    for row in range(len(logits)):
        ids = encoded.word_ids(row)
        found += [logits[row, ids.index(word)] for word in sorted({word for word in ids if word is not None})]
    return torch.stack(found)


@pytest.mark.parametrize("task", ["classification", "token_classification"])
def test_the_step_is_that_of_two_networks_of_transformers(tiny_model, tmp_path, task):
    """Loss and gradients of a packed batch, by a RoBERTa with another tokenizer and order of labels."""
    folder = teacher_folder(tmp_path / "teacher", task)
    config = config_of(tiny_model, tmp_path, task, folder)
    prepared = prepare(config, 1)
    model, params = prepared.model, prepared.params
    packed_batch = next(prepared.train.batches())
    step = make_train_step(model, optax.sgd(0.1), loss_of(config))
    state = step.init(params, jax.random.PRNGKey(0))
    grads, metrics = jax.jit(step.gradient)(state, packed_batch.batch)

    rows = [TABLES[task][i] for i in packed_batch.example_ids[packed_batch.example_ids >= 0]]
    texts = [row["text" if task == "classification" else "tokens"] for row in rows]
    student = make_module(model, params).double().eval()
    teacher = type(their_model("roberta", task, 0.3, NAMES[task])).from_pretrained(folder).double().eval()
    encoded, of_teacher = tokens_of(texts, tiny_model), tokens_of(texts, folder)
    with torch.no_grad():
        answers = teacher(**of_teacher).logits
    logits = student(**encoded).logits
    labels = (
        [row["label"] for row in rows] if task == "classification" else [tag for row in rows for tag in row["tags"]]
    )
    if task == "token_classification":
        logits, answers = of_words(logits, encoded), of_words(answers, of_teacher)
    names = [teacher.config.id2label[i] for i in range(3)]
    answers = answers[:, [names.index(name) for name in model.labels]]
    right = torch.tensor([model.labels.index(label) for label in labels])
    hard = functional.cross_entropy(logits, right)
    soft = torch_divergence(logits, answers).mean()
    loss = (1 - WEIGHT) * hard + WEIGHT * soft
    loss.backward()

    assert soft > 0.1, "the teacher says something else"
    assert float(metrics["loss"]) == pytest.approx(loss.item(), rel=1e-5)
    theirs = {name: value.grad.float().numpy() for name, value in student.named_parameters() if value.grad is not None}
    expected = to_haiku(theirs, parameter_shapes(model), weight_table(model)).params
    for module, leaves in expected.items():
        for name, leaf in leaves.items():
            np.testing.assert_allclose(grads[module][name], leaf, atol=1e-4 * max(1e-2, abs(leaf).max()), rtol=1e-4)


@pytest.mark.parametrize("task", ["token_classification", "sentence_embedding"])
def test_packed_is_padded_wherever_scores_lie(tiny_model, tmp_path, task):
    """On tokens, on pairs of texts; a teacher of the same encoder with another head, whose answers differ."""
    names = NAMES[task] if TASKS[task].names else None
    model, params = from_pretrained(tiny_model, task, labels=names, new_head=True, seed=5)
    params = {name: {leaf: 3 * np.asarray(value) for leaf, value in leaves.items()} for name, leaves in params.items()}
    save_pretrained(tmp_path / "teacher", model, params, AutoTokenizer.from_pretrained(tiny_model))
    config = config_of(tiny_model, tmp_path, task, tmp_path / "teacher")
    packed, padded = (prepare(replace(config, packing=packing), 1) for packing in ("on", "off"))

    def mean_losses(loss: Loss) -> list[float]:
        @jax.jit
        def mean(batch: Batch) -> jax.Array:
            losses = loss(packed.model.apply(packed.params, None, batch), batch)
            return (losses * batch.example_weights).sum() / batch.example_weights.sum()

        return [float(mean(next(prepared.train.batches()).batch)) for prepared in (packed, padded)]

    taught, alone = mean_losses(loss_of(config)), mean_losses(loss_of(replace(config, distillation=Distillation())))
    assert taught[0] == pytest.approx(taught[1], rel=1e-5)
    assert abs(taught[0] - alone[0]) > 1e-3


def test_numbers_are_taught_in_the_unit_that_is_learned(tiny_model, tmp_path):
    """The teacher's column has another name; the only number is the same."""
    folder = teacher_folder(tmp_path / "teacher", "regression")
    plain = config_of(tiny_model, tmp_path, "regression", folder)
    prepared, in_units = (prepare(replace(plain, standardize_targets=each), 1) for each in (True, False))
    assert prepared.target_scale is not None
    ours, theirs = prepared.train.examples.teacher_scores, in_units.train.examples.teacher_scores
    np.testing.assert_allclose(prepared.target_scale.in_units(ours), theirs, rtol=1e-5, atol=1e-6)
    assert np.ptp(theirs) > 0.1


def test_repeated_rows_keep_their_teacher(config):
    """16 rows of two classes and 5 of the third."""
    rows = [row for i, row in enumerate(TABLES["classification"]) if row["label"] != "z" or i < 15]
    Path(config.data.train).write_text("\n".join(map(json.dumps, rows)))
    examples = prepare(replace(config, imbalance=Imbalance(oversample=True)), 1).train.examples
    assert isinstance(examples, Examples)
    texts = [examples.token_ids[start:end].tobytes() for start, end in pairwise(examples.offsets)]
    scores = {}
    for text, of_text in zip(texts, examples.teacher_scores, strict=True):
        np.testing.assert_array_equal(scores.setdefault(text, of_text), of_text)
    assert len({of_text.tobytes() for of_text in scores.values()}) == len(scores) == 37
    assert len(texts) == 48


def test_a_word_that_is_nothing_to_the_teacher_is_not_learned(tmp_path, tiny_model, caplog):
    """BERT drops a control character, which RoBERTa's bytes spell."""
    teacher = teacher_folder(tmp_path / "teacher", "token_classification", "bert")
    student = their_folder("roberta", tmp_path / "student")
    config = config_of(student, tmp_path, "token_classification", teacher)
    rows = [{"tokens": ["\x96", *row["tokens"]], "tags": ["O", *row["tags"]]} for row in TABLES[config.task][:2]]
    Path(config.data.train).write_text("\n".join(map(json.dumps, [*rows, *TABLES[config.task][2:]])))
    examples = prepare(config, 1).train.examples
    assert "makes nothing of 2 labelled words, which the run does not learn" in caplog.text
    words = sum(len(row["tokens"]) for row in TABLES[config.task])
    assert (examples.labels != UNLABELLED).sum() == words
    assert (np.abs(examples.teacher_scores).sum(-1) > 0).sum() == words


def losses_of(tracker: MemoryTracker) -> list[tuple[int, float]]:
    return [(step, row["train/loss"]) for step, row in tracker.metrics if "train/grad_norm" in row]


def test_a_run_is_repeated_and_resumed_to_the_bit_and_keeps_its_teacher(config, tmp_path):
    """With rows of other weights, in parts of a batch."""
    config = replace(
        config,
        batch_size=24,
        accumulate=2,
        imbalance=Imbalance(class_weights=("x=2",)),
        judging=Judging(intervals=False, automatic_slices=False),
        optimizer=Optimizer(learning_rate=1e-2),
    )
    whole, first, second = MemoryTracker(), MemoryTracker(), MemoryTracker()
    result = finetune(config, tmp_path / "whole", tracker=whole)
    with pytest.raises(Interrupted):
        finetune(config, tmp_path / "parts", tracker=first, should_stop=stop_after(1))

    other = teacher_folder(tmp_path / "other", "classification", "bert")
    named = replace(config, distillation=replace(config.distillation, teacher=str(other)))
    with pytest.raises(RunFolderError, match=r"was started with other settings or data: distillation\.teacher was"):
        finetune(named, tmp_path / "parts", tracker=second, if_exists="resume")
    folder = Path(str(config.distillation.teacher))
    kept = (folder / "model.safetensors").read_bytes()
    their_model("roberta", "classification", 0.2, NAMES["classification"]).save_pretrained(folder)
    with pytest.raises(RunFolderError, match=r"other settings or data: teacher was '\w{16}', now '\w{16}'; --allow"):
        finetune(config, tmp_path / "parts", tracker=second, if_exists="resume")
    (folder / "model.safetensors").write_bytes(kept)

    finetune(config, tmp_path / "parts", tracker=second, if_exists="resume")
    assert losses_of(first) + losses_of(second) == losses_of(whole)
    assert len(losses_of(whole)) == 2
    (start,) = json.loads((tmp_path / "whole" / "environment.json").read_text())["starts"]
    assert start["teacher"] == json.loads((tmp_path / "whole" / "made_from.json").read_text())["teacher"]
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["distillation.teacher"] == str(folder)
    assert "test/accuracy" in result.metrics


def test_torch_is_not_compared_with_it(config):
    model = prepare(replace(config, distillation=Distillation()), 1).model
    check_job(["jax"], config, model)
    with pytest.raises(ConfigError, match="PyTorch is compared without --teacher"):
        check_job(["jax", "torch"], config, model)


def test_texts_that_the_teacher_knows_cleaned(tiny_model, reviews, finished_run):
    """The finished run stripped markup."""
    table = Table(str(reviews), text=("title", "body"), label="stars")
    config = FineTuneConfig(
        str(tiny_model), table, max_length=48, distillation=Distillation(str(finished_run.model_dir))
    )
    with pytest.raises(ConfigError, match="was trained on texts after --steps strip_markup, and the run has none"):
        prepare(config, 1)
    prepare(replace(config, data=replace(table, steps=("strip_markup",))), 1)
