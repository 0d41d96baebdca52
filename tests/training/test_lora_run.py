"""A run with adapters: what it trains, what it leaves, and what it refuses."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bertjax import Predictor, override
from bertjax.data.table import Table
from bertjax.errors import ConfigError, Interrupted, RunFolderError
from bertjax.model.lora import is_adapter
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.multi.multi_seed import finetune_seeds
from bertjax.training.optim.fresh_adapters import with_adapters
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.prepared_run import prepare_run
from bertjax.training.run.training_session import FineTuneResult
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Lora, Optimizer, Regularization
from tests.support.models import TINY, network
from tests.support.tracking import stop_after

ATTENTION = {f"attention/{layer}" for layer in ("query", "key", "value", "output")}


@pytest.fixture(scope="module")
def config(tiny_model, reviews) -> FineTuneConfig:
    return FineTuneConfig(
        model=str(tiny_model),
        data=Table(str(reviews), text=("title", "body"), label="stars"),
        epochs=2,
        max_length=48,
        batch_size=8,
        optimizer=Optimizer(learning_rate=1e-2),
        lora=Lora(rank=4, dropout=0.1),
    )


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory) -> FineTuneResult:
    """A run to its end."""
    return finetune(config, tmp_path_factory.mktemp("runs") / "whole", tracker=MemoryTracker())


def params_of(result):
    return from_pretrained(result.model_dir)[1]


def test_a_run_leaves_a_merged_model_and_an_adapter_that_peft_puts_on_the_base(whole, tiny_model):
    model, params = from_pretrained(whole.model_dir)
    assert model.labels == ("bad", "good")
    base = from_pretrained(tiny_model)[1]
    for module, leaves in base.items():
        moved = module.endswith(("/query", "/value")) or not module.startswith("bert/")
        for name, leaf in leaves.items():
            assert np.array_equal(params[module][name], leaf) != ((moved and name == "w") or module == "pooler"), module

    text = "the film good and great ."
    adapter = whole.folder / "adapter"
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_model)
    theirs = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=2)
    theirs = PeftModel.from_pretrained(theirs, adapter).eval()
    merged = AutoModelForSequenceClassification.from_pretrained(whole.model_dir).eval()
    tokens = AutoTokenizer.from_pretrained(whole.model_dir)(text, return_tensors="pt")
    logits = merged(**tokens).logits.detach().numpy()
    np.testing.assert_allclose(theirs(**tokens).logits.detach().numpy(), logits, rtol=0, atol=1e-5)
    with theirs.disable_adapter():
        assert np.abs(theirs(**tokens).logits.detach().numpy() - logits).max() > 1e-3
    (answer,) = Predictor.load(whole.model_dir)([text])
    assert answer["label"] == model.labels[int(logits.argmax())]
    _, again = from_pretrained(tiny_model, labels=model.labels, adapter=adapter)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=0, atol=1e-6), again, params)


def test_gradients_and_optimizer_state_are_of_adapters_and_head_alone(config, tmp_path):
    run = prepare_run(config, tmp_path / "run")
    trained = run.step.trainable(run.state.params)
    assert {module for module in trained if module.startswith("bert/")} == set(filter(is_adapter, run.state.params))
    assert set(trained) - set(filter(is_adapter, trained)) == {"pooler", "classifier"}
    moments = sum(leaf.size for leaf in jax.tree.leaves(run.state.opt_state) if leaf.ndim)
    assert moments == 2 * sum(leaf.size for leaf in jax.tree.leaves(trained))


def test_a_stopped_run_continues_to_the_same_bits(config, whole, tmp_path):
    with pytest.raises(Interrupted):
        finetune(config, tmp_path / "run", tracker=MemoryTracker(), should_stop=stop_after(7))
    with pytest.raises(RunFolderError, match=r"lora.rank was 4, now 2; the optimizer's state would have other arrays"):
        finetune(override(config, {"lora.rank": 2}), tmp_path / "run", if_exists="resume_changed")
    resumed = finetune(config, tmp_path / "run", if_exists="resume", tracker=MemoryTracker())
    jax.tree.map(np.testing.assert_array_equal, params_of(resumed), params_of(whole))
    assert resumed.metrics["train/loss"] == whole.metrics["train/loss"]


def test_stacked_seeds_learn_what_each_learns_alone(config, whole, tmp_path):
    stacked = finetune_seeds(config, (1, 0), tmp_path / "both", stack=True, new_tracker=lambda _: MemoryTracker())
    ours, theirs = from_pretrained(stacked.model_dir(0))[1], params_of(whole)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=0, atol=1e-4), ours, theirs)


def test_a_regression_saves_its_adapter_in_the_units_of_the_table(config, tiny_model, tmp_path):
    rows = "\n".join(
        ["text,price", *(f"a {word} film {i},{1000 + 37 * i}" for i in range(20) for word in ("good", "bad"))]
    )
    (tmp_path / "prices.csv").write_text(rows + "\n")
    data = Table(str(tmp_path / "prices.csv"), text=("text",), label="price")
    result = finetune(
        replace(config, data=data, task="regression", epochs=1), tmp_path / "run", tracker=MemoryTracker()
    )
    _, again = from_pretrained(tiny_model, "regression", labels=("price",), adapter=tmp_path / "run" / "adapter")
    for name, leaf in params_of(result)["classifier"].items():
        np.testing.assert_array_equal(again["classifier"][name], leaf)


def test_a_rate_that_is_not_given_is_ten_times_that_of_whole_matrices():
    assert FineTuneConfig(lora=Lora(rank=8)).resolved().optimizer.learning_rate == pytest.approx(1e-3)
    assert FineTuneConfig().resolved().optimizer.learning_rate == pytest.approx(1e-4)
    given = FineTuneConfig(lora=Lora(rank=8), optimizer=Optimizer(learning_rate=3e-4))
    assert given.resolved().optimizer.learning_rate == pytest.approx(3e-4)


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        (Lora.targets, {"attention/query", "attention/value"}),
        (("bert/layer_*",), {*ATTENTION, "intermediate", "output"}),
        (("bert/layer_?/output/w", "bert/layer_*/intermediate/w"), {"intermediate", "output"}),
    ],
)  # fmt: skip
def test_targets_name_linear_layers(targets, layers):
    model = with_adapters(*network(), Lora(rank=2, targets=targets), 0)[0]
    assert model.config.adapters.modules == {f"bert/layer_{i}/{layer}" for i in range(2) for layer in layers}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": ("bert/layer_*/atention/*",)}, "lora.targets: 'bert/layer_.*' matches no parameter"),
        ({"targets": ("bert/embeddings/*",)}, "lora.targets: 'bert/embeddings/.*' is no linear layer of the encoder"),
        ({"targets": ("norms",)}, "lora.targets: 'norms' is no linear layer of the encoder"),
        ({"rank": 17}, "lora.rank 17 is above 16, the width of the layers"),
    ],
)
def test_adapters_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        with_adapters(*network(), Lora(**{"rank": 2, **settings}), 0)


def test_layers_compiled_as_one_have_the_same_adapters():
    config = replace(TINY, num_layers=3, execution=replace(TINY.execution, layers="stacked"))
    with pytest.raises(ConfigError, match="layers 'stacked' needs lora.targets to be the same in every layer"):
        with_adapters(*network(config), Lora(rank=2, targets=("bert/layer_1/output/w",)), 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lora(alpha=8.0), "lora.alpha, lora.dropout and lora.targets are of adapters; give lora.rank"),
        (lambda: Lora(rank=-1), "rank must not be negative, got -1"),
        (lambda: Lora(rank=4, targets=()), "lora.targets must name linear layers"),
        (
            lambda: FineTuneConfig(lora=Lora(rank=4), regularization=Regularization(mixout=0.5)),
            "mixout takes weights back",
        ),
        (lambda: FineTuneConfig(lora=Lora(rank=4), resize_embeddings=True), "resize_embeddings adds rows that must be"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_freezing_the_adapters_is_refused(config, tmp_path):
    with pytest.raises(ConfigError, match="freeze: backbone leaves no adapter to train; leave lora.rank out"):
        prepare_run(replace(config, freeze=("backbone",)), tmp_path / "run")
