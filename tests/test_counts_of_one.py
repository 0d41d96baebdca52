"""One of everything: a count of one changes no shape, and each number is what another library makes of it."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score as seqeval_f1
from sklearn import metrics as sklearn
from transformers import BertConfig as TheirConfig
from transformers import BertForSequenceClassification, BertModel

from bertjax.baselines.compare.agreement import agreement
from bertjax.baselines.compare.paired_statistics import paired_difference, verdict
from bertjax.baselines.parity.check_parity import check_parity
from bertjax.batch import UNLABELLED, padded_batch
from bertjax.config import Execution
from bertjax.data.batching.packing import Layout, pack_batch
from bertjax.data.encode.examples import Examples
from bertjax.data.table import Table
from bertjax.errors import ConfigError
from bertjax.evaluation.evaluate_table import evaluate
from bertjax.inference.predictor import Predictor
from bertjax.members.original_bert import BERT
from bertjax.metrics.aggregate import flat, spread
from bertjax.metrics.classification_report import classification_report, multi_label_report
from bertjax.metrics.evaluators import evaluate_choices, evaluate_cosines, evaluate_masked_words
from bertjax.metrics.regression_report import regression_report
from bertjax.metrics.tag_report import tag_report
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.prediction.batcher import bucketed_batches, one_shape_batches
from bertjax.prediction.forward import predict
from bertjax.pretrained.convert import to_haiku
from bertjax.tasks import make_model, parameter_shapes
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.finetune_config import FineTuneConfig
from tests.support.models import TINY

RNG = np.random.default_rng(0)


def some(rows, labels, share=0.5):
    return RNG.random((rows, labels)) < share


# ------------------------------------------------------------------------------------------------------------- metrics


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [
        (some(50, 1), some(50, 1)),
        (np.ones((4, 1)), np.ones((4, 1))),
        (np.zeros((4, 1)), np.zeros((4, 1))),
        (np.ones((4, 1)), np.zeros((4, 1))),
        (np.ones((1, 1)), np.ones((1, 1))),
        (some(1, 3), some(1, 3)),
        (some(50, 3), some(50, 3)),
    ],
    ids=[
        "one label",
        "on every row",
        "on none",
        "never predicted",
        "one row of it",
        "one row of three",
        "three labels",
    ],
)
def test_several_labels_a_row(labels, predictions):
    """Each label is judged by the rows that have it, whatever their number."""
    names = tuple("abc"[: labels.shape[1]])
    report = multi_label_report(labels, predictions, names)
    assert report.metrics["subset_accuracy"] == np.mean((labels == predictions).all(axis=1))
    columns = [(labels[:, i].astype(bool), predictions[:, i].astype(bool)) for i in range(len(names))]
    for name, (true, predicted) in zip(names, columns, strict=True):
        for key, score in (("f1", sklearn.f1_score), ("precision", sklearn.precision_score)):
            assert report.parts[name][key] == score(true, predicted, pos_label=True, zero_division=0)
    # Over all cells, and the mean of the labels.
    true, predicted = (np.concatenate(side) for side in zip(*columns, strict=True))
    assert report.metrics["recall_micro"] == pytest.approx(sklearn.recall_score(true, predicted, zero_division=0))
    assert report.metrics["f1_macro"] == pytest.approx(np.mean([part["f1"] for part in report.parts.values()]))
    assert [scores[-1] for _, scores in report.table.rows] == labels.sum(axis=0).tolist()


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [([1, 1, 1], [1, 0, 1]), ([2, 2], [2, 2]), ([0], [0]), ([0], [2])],
    ids=["one class", "and no other predicted", "one row", "one row, wrong"],
)
def test_one_class_in_a_test_set(labels, predictions):
    labels, predictions = np.array(labels), np.array(predictions)
    report = classification_report(labels, predictions, ("a", "b", "c"))
    theirs = sklearn.classification_report(labels, predictions, output_dict=True, zero_division=0)
    assert report.metrics["accuracy"] == np.mean(labels == predictions)
    assert report.metrics["f1_macro"] == pytest.approx(theirs["macro avg"]["f1-score"])
    assert report.metrics["recall_weighted"] == pytest.approx(theirs["weighted avg"]["recall"])
    assert report.confusion.counts.shape == (3, 3)
    assert report.confusion.counts.sum() == len(labels)


def examples_of(labels, **more):
    labels = np.asarray(labels)
    tokens = np.zeros(len(labels), np.int32)
    return Examples(tokens, tokens, np.arange(len(labels) + 1), labels, 0, **more)


def test_one_row_of_each_other_task():
    numbers = regression_report(np.array([[2.0]]), np.array([[5.0]]), ("x",))
    assert (numbers.metrics["mse"], numbers.metrics["mae"], numbers.parts) == (9.0, 3.0, {})
    cosine = evaluate_cosines(np.array([0.5]), examples_of(np.float32([1.0])), ())
    assert cosine.metrics["mse"] == 0.25
    choice = evaluate_choices(np.array([[0.0, 3.0]]), examples_of([1]), ())
    assert choice.metrics == {"accuracy": 1.0, "reciprocal_rank": 1.0}
    hidden = evaluate_masked_words(np.array([[2.0, 1.0], [9.0, 0.0]]), examples_of([7, UNLABELLED]), ())
    assert hidden.metrics == {"loss": 2.0, "perplexity": pytest.approx(np.exp(2.0)), "accuracy": 1.0}


@pytest.mark.parametrize("right", [True, False])
def test_one_word_of_one_type_of_entity(right):
    names = ("O", "B-FILM")
    examples = examples_of([1], labels_of="tokens", row_of=np.array([0]))
    report = tag_report(np.eye(2)[[int(right)]], examples, names)
    assert report.metrics["f1"] == seqeval_f1([["B-FILM"]], [[names[right]]], zero_division=0)
    assert list(report.parts) == ["FILM"]


def test_one_seed():
    assert flat({"accuracy": spread([0.5])}) == {"accuracy_mean": 0.5}
    paired = paired_difference([0.5], [0.25])
    assert (paired.mean, paired.interval) == (0.25, None)
    assert verdict(paired, "JAX", "PyTorch") == "too few seeds to tell (1 of 5)"


@pytest.mark.parametrize(
    ("task", "scores", "same"),
    [("multi_label", [[0.5]], 1.0), ("multi_label", [[-0.5]], 0.0), ("classification", [[0.0, 2.0]], 1.0)],
)
def test_two_models_agree_on_one_row(task, scores, same):
    class Run:
        def __init__(self, answers):
            self.task, self.answers = task, np.array(answers)

    other = [[2.0]] if task == "multi_label" else [[1.0, 3.0]]
    assert agreement(Run(scores), Run(other)) == same


# ------------------------------------------------------------------------------------------------------------- network

ONE = {
    "layer": {"num_layers": 1},
    "head": {"num_heads": 1},
    "hidden unit": {"hidden_size": 1, "num_heads": 1},
    "word piece": {"vocab_size": 1},
    "position": {"max_position_embeddings": 1},
    "segment type": {"type_vocab_size": 1},
    "layer, head, unit, word piece and position": {
        "num_layers": 1, "hidden_size": 1, "num_heads": 1, "intermediate_size": 1, "vocab_size": 1,
        "max_position_embeddings": 1, "type_vocab_size": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("layers", ["unrolled", "stacked"])
@pytest.mark.parametrize("of", ONE)
def test_a_network_of_one_is_transformers(of, layers, rows):
    """Shapes and numbers of all hidden states and attention weights, of one text and of two."""
    config = replace(TINY, **ONE[of], execution=Execution(layers=layers), pad_token_id=0)
    torch.manual_seed(0)
    theirs = BertModel(TheirConfig(**config.to_hugging_face(), attn_implementation="eager")).eval()
    model = make_model(config, "encoder")
    tensors = {name: value.detach().numpy() for name, value in theirs.named_parameters()}
    params = to_haiku(tensors, parameter_shapes(model), BERT.weights).params
    ids = RNG.integers(0, config.vocab_size, (rows, min(5, config.max_position_embeddings)))
    ours = model.apply(params, None, padded_batch(np.ones_like(ids), ids), True, True, True)
    with torch.no_grad():
        output = theirs(torch.tensor(ids), output_hidden_states=True, output_attentions=True)
    for left, layers_of in ((ours.hidden_states, output.hidden_states), (ours.attentions, output.attentions)):
        right = torch.stack(layers_of).numpy()
        assert left.shape == right.shape
        np.testing.assert_allclose(left, right, atol=1e-5)  # float32, two layers
    np.testing.assert_allclose(ours.pooled_output[:, 0], output.pooler_output.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("of", "task", "labels"),
    [
        ("layer", "classification", ("a", "b")),
        ("position", "token_classification", ("a", "b")),
        ("head", "multi_label", ("a",)),
    ],
    ids=["layer", "position", "label"],
)
def test_parity_of_a_network_of_one(of, task, labels, tmp_path):
    """Every hidden state, the loss, and the gradient of every parameter, padded and packed."""
    model = make_model(replace(TINY, **ONE[of]), task, labels)
    params = jax.device_get(jax.jit(model.init)(jax.random.key(0)))
    folder = save_pretrained(tmp_path / "model", model, params)
    compared = []
    for comparison in check_parity(model, params, folder):
        if comparison.section == "sgd":
            break
        compared.append(comparison)
    assert {comparison.section for comparison in compared} == {"forward", "loss", "gradient"}
    assert [comparison for comparison in compared if not comparison.holds] == []


def test_a_choice_from_one_class_is_refused():
    """transformers loads no such model, and there is nothing to learn."""
    with pytest.raises(ConfigError, match="task 'classification' needs two labels or more, got only 'a'"):
        make_model(TINY, "classification", ("a",))


# --------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("batcher", [one_shape_batches, bucketed_batches])
@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [1, 1, 1, 2], [1, 2]], ids=str)
@pytest.mark.parametrize("task", ["classification", "token_classification"])
def test_texts_of_one_token_get_their_own_scores(task, lengths, batcher):
    """A tokenizer without [CLS] and [SEP] makes them; a row then has as many slots as tokens."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.arange(1, offsets[-1] + 1, dtype=np.int32)
    of_tokens = task == "token_classification"
    labels = np.zeros(len(tokens) if of_tokens else len(lengths), np.int32)
    examples = Examples(tokens, 0 * tokens, offsets, labels, 0, labels_of="tokens" if of_tokens else "examples")

    def first_ids(batch):
        ids = batch.token_ids[..., None].astype(np.float32)
        return ids if of_tokens else np.take_along_axis(ids, batch.example_starts[..., None], axis=1)

    scores = predict(first_ids, 1, task, examples, batcher)
    assert scores[:, 0].tolist() == (tokens if of_tokens else tokens[offsets[:-1]]).tolist()


@pytest.mark.parametrize("labels_of", ["examples", "tokens"])
def test_rows_of_one_token_are_packed(labels_of):
    batch = padded_batch(np.ones((3, 1)), [[4], [5], [6]], labels=np.array([1, 2, 3]), labels_of="examples")
    if labels_of == "tokens":
        batch = padded_batch(np.ones((3, 1)), [[4], [5], [6]], labels=np.array([[1], [2], [3]]), labels_of="tokens")
    packed = pack_batch(batch, [[0, 2], [1]], Layout(rows=2, row_length=3, slots=2), labels_of)
    assert packed.token_ids.tolist() == [[4, 6, 0], [5, 0, 0]]
    expected = [[1, 3, 0], [2, 0, 0]] if labels_of == "tokens" else [[1, 3], [2, 0]]
    assert packed.labels.tolist() == expected


# ---------------------------------------------------------------------------------------------------------------- runs


def table(folder, **sides):
    for side, rows in sides.items():
        (folder / f"{side}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Table(**{side: str(folder / f"{side}.jsonl") for side in sides})


def test_a_run_with_one_label(tiny_model, tmp_path):
    """Of rows that have it or not: trained, validated and judged on one row, answered, and read by transformers."""
    rows = [{"text": f"{text} {i}", "labels": ["odd"] * i} for i in (0, 1) for text in ("film", "book", "song")]
    validation, test = [{"text": "a plot", "labels": ["odd"]}], [{"text": "so great", "labels": []}]
    data = table(tmp_path, train=rows, validation=validation, test=test)
    config = FineTuneConfig(str(tiny_model), data, task="multi_label", epochs=1, batch_size=8, max_length=8)
    result = finetune(config, tmp_path / "run", tracker=MemoryTracker())
    assert result.metrics["train/steps"] == 1
    assert evaluate(str(result.model_dir), data.test).report.flat("test").items() <= result.metrics.items()
    (answer,) = Predictor.load(result.model_dir)(["so great"])
    assert result.metrics["test/subset_accuracy"] == float(answer["labels"] == [])
    theirs = BertForSequenceClassification.from_pretrained(result.model_dir)
    assert (theirs.config.num_labels, theirs.config.id2label) == (1, {0: "odd"})


def test_a_run_of_one_row_and_one_step(tiny_model, tmp_path):
    """Of numbers: there is no deviation to divide by."""
    data = table(tmp_path, train=[{"text": "a", "label": 3.5}], test=[{"text": "so great", "label": 2.0}])
    config = FineTuneConfig(str(tiny_model), data, task="regression", epochs=1, batch_size=1, max_length=3)
    result = finetune(config, tmp_path / "run", tracker=MemoryTracker())
    (answer,) = Predictor.load(result.model_dir)(["so great"])
    assert result.metrics["train/steps"] == 1
    assert result.metrics["test/mse"] == pytest.approx((answer["values"]["label"] - 2.0) ** 2, rel=1e-5)
