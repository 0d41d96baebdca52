"""One server for all tests of this folder that do not end it."""

from collections.abc import Iterator

import pytest

from bertjax.training.run.training_session import FineTuneResult
from tests.support.servers import Server, serving

ADMIN = "admin-secret"


@pytest.fixture(scope="package")
def server(finished_run: FineTuneResult) -> Iterator[Server]:
    """Serves the tiny reviewer of texts, with limits that a test can reach."""
    model = str(finished_run.model_dir)
    models = [
        "--model",
        model,
        "--models",
        f"again={model}",
        "broken=/nowhere/at/all",
        "--admin-token",
        ADMIN,
        "--embed",
    ]
    limits = ["--max-body-bytes", "1500000", "--body-seconds", "1", "--max-texts", "500", "--max-text-chars", "20000"]
    with serving(*models, "--admin-token", ADMIN, "--embed", *limits) as running:
        yield running
