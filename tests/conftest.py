"""Shared parts of the tests: two CPU devices, shapes checked at run time, a tiny model, the real one."""

import os
import socket
import tempfile
import warnings
from collections.abc import Iterator

# Before JAX starts: every test sees two devices, so what only works on one fails here.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
# Tests that compile the same program share it, processes that they start included; so do runs of the tests where the
# variable names a folder.
_compiled = tempfile.TemporaryDirectory(prefix="bertjax-compiled-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _compiled.name)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

from jaxtyping import install_import_hook

install_import_hook(["bertjax.model", "bertjax.tasks"], "beartype.beartype")

from pathlib import Path

import hypothesis
import jax
import pytest

from bertjax import catalog
from bertjax.config import BertConfig
from bertjax.data.streaming.ray_blocks import ray_session as streaming_session
from bertjax.data.table import Table
from bertjax.model_folder import save_pretrained
from bertjax.tasks import make_model
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.training_session import FineTuneResult
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer

# How long an example takes says something of the machine, and nothing of the code; the same examples each time, so that
# a red test is the fault of a change.
hypothesis.settings.register_profile("bertjax", deadline=None, derandomize=True)
hypothesis.settings.load_profile("bertjax")

TINY = BertConfig(
    vocab_size=64, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_position_embeddings=48
)
WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "book", "a", "the", "what", "was", "not",
    "very", "plot", "song", "it", "and", "so", "dull", "great", "who", "how", "when", "where", "##s", ".", ",", "?",
]  # fmt: skip


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def hub_snapshot(cache: Path, name: str) -> Path:
    """An empty folder for a model, where a hub client leaves one in its cache; offline, it reads nothing else."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    return snapshot


@pytest.fixture(autouse=True, scope="module")
def no_compiled_programs_left() -> Iterator[None]:
    """A compiled program takes several maps of memory; Linux gives a process 65530, and all tests would need more."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The real MiniLM-L6, from the catalog."""
    return catalog.fetch("minilm-l6")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with two small layers and a vocabulary of a few words."""
    from transformers import BertTokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny"
    vocabulary = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS) + "\n")
    tokenizer = BertTokenizer(str(vocabulary))
    model = make_model(TINY, "encoder")
    save_pretrained(folder, model, model.init(jax.random.PRNGKey(0)), tokenizer)
    return folder


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A csv of 60 distinct short reviews in two classes that a tiny model can tell apart."""
    folder = tmp_path_factory.mktemp("tables")
    path = folder / "reviews.csv"
    subjects = ["film", "book", "plot", "song", "film and book"]
    openings = ["the", "a very", "it was a", "so , the", "what a", "and the"]
    lines = ["title,body,stars"]
    for opening in openings:
        for subject in subjects:
            lines.append(f'"{opening} {subject}",good and great .,good')
            lines.append(f'"{opening} {subject}",bad and dull .,bad')
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, reviews: Path) -> FineTuneResult:
    """A run of the tiny model that cleaned its texts and cut some of them."""
    table = Table(str(reviews), text=("title", "body"), label="stars", steps=("strip_markup",))
    optimizer = Optimizer(learning_rate=1e-2)
    config = FineTuneConfig(str(tiny_model), table, epochs=8, max_length=10, batch_size=8, optimizer=optimizer)
    return finetune(config, tmp_path_factory.mktemp("runs") / "finished", tracker=MemoryTracker())


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with MLflow's sqlite file in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A Ray session of this machine with two workers."""
    with warnings.catch_warnings():
        # Ray's own sockets and logs, closed when they are collected.
        warnings.simplefilter("ignore", ResourceWarning)
        with streaming_session(num_cpus=2):
            yield
