"""A fine-tuned model, rows, and a job over them, for the tests of predicted files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bertjax.inference.batch import row_answers
from bertjax.inference.batch.local_engine import answered_here
from bertjax.inference.batch.output_place import OutputPlace
from bertjax.inference.batch.predict_files import PredictionJob, run_job
from bertjax.inference.batch.row_source import PartSizes
from bertjax.inference.predictor import Predictor


@pytest.fixture(scope="module")
def model(finished_run) -> Path:
    return Path(finished_run.model_dir)


@pytest.fixture(scope="module")
def predictor(model):
    return Predictor.load(model)


@pytest.fixture(scope="module")
def one_network() -> Iterator[None]:
    """Jobs with the same model share what is compiled."""
    made: dict[object, Predictor] = {}

    def shared(loaded):
        key = (loaded.max_length, loaded.table, loaded.model.task)
        if key not in made:
            made[key] = Predictor(loaded)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_answers, "Predictor", shared)
        yield


@pytest.fixture
def predict(model, one_network, tmp_path):
    """(data, out, sizes, other fields of the job) -> what `run_job` returns."""

    def predict(data, out, rows_per_part=3, batch_size=2, engine=answered_here, resume=False, overwrite=False, **job):
        place = OutputPlace.of(str(tmp_path / out), job.pop("format_name", None))
        settings = {"model": str(model), **job}
        job = PredictionJob(data=str(data), place=place, sizes=PartSizes(rows_per_part, batch_size), **settings)
        return run_job(job, engine, resume, overwrite)

    return predict


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """103 rows of different lengths."""
    rng = np.random.default_rng(0)
    words = ["good", "bad", "film", "book", "a", "the", "was", "dull", "great", "so"]
    rows = [
        [f"{i:04d}", " ".join(rng.choice(words, rng.integers(1, 5))), " ".join(rng.choice(words, 3))]
        for i in range(103)
    ]
    path = tmp_path_factory.mktemp("many") / "many.csv"
    pd.DataFrame(rows, columns=["id", "title", "body"]).to_csv(path, index=False)
    return path
