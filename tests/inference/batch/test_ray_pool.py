"""The pool of Ray actors answers as one process does: the same rows, labels, order and parts, whatever its size."""

import numpy as np
import pandas as pd
import pytest

from bertjax.errors import ConfigError, DataError, UserError
from bertjax.inference.batch.local_engine import answered_here
from bertjax.inference.batch.output_place import OutputPlace
from bertjax.inference.batch.predict_files import PredictionJob, run_job
from bertjax.inference.batch.ray_pool import RayPool, share_of_actor
from bertjax.inference.batch.row_answers import Request
from bertjax.inference.batch.row_source import PartSizes

pytestmark = pytest.mark.ray
CPUS = 2  # of the tests' session


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Two files, and a bad row in the middle of the second."""
    folder = tmp_path_factory.mktemp("rows")
    words = ["good", "bad", "film", "book", "a", "the", "was", "dull", "great", "so"]
    rng = np.random.default_rng(0)
    for number in range(2):
        texts = [" ".join(rng.choice(words, rng.integers(1, 6))) for _ in range(300)]
        frame = pd.DataFrame({"id": [f"{number}{i:03d}" for i in range(300)], "title": texts, "body": None})
        frame.loc[150, "title"] = "good" if number == 0 else None
        frame.to_csv(folder / f"in{number}.csv", index=False)
    return folder / "in*.csv"


def job_of(model, rows, out, batch_size=50, **fields) -> PredictionJob:
    settings = {"columns": {"on_bad_row": "skip"}, "sizes": PartSizes(128, batch_size), **fields}
    return PredictionJob(str(model), str(rows), OutputPlace.of(str(out), None), **settings)


def test_a_pool_as_large_as_the_machine(finished_run, rows, ray_session, tmp_path):
    """Ray Data waits for ever where actors leave no CPU to the task that feeds them (ray issue 44687). A start of one
    process is finished by the pool, and both give what one process gives."""
    model = finished_run.model_dir
    run_job(job_of(model, rows, tmp_path / "whole.csv"))

    class Killed(BaseException):
        pass

    def killed(*arguments):
        for number, chunk in enumerate(answered_here(*arguments)):
            if number == 4:
                raise Killed
            yield chunk

    with pytest.raises(Killed):
        run_job(job_of(model, rows, tmp_path / "pool.csv"), killed)
    result = run_job(job_of(model, rows, tmp_path / "pool.csv", batch_size=30), RayPool(CPUS), resume=True)
    assert (result.answered, result.left_out) == (599, 1)
    found, expected = (pd.read_csv(tmp_path / name, dtype={"id": str}) for name in ("pool.csv", "whole.csv"))
    assert found.columns.tolist() == ["id", "title", "body", "label", "probability"]
    np.testing.assert_allclose(found.pop("probability"), expected.pop("probability"), atol=1e-6, rtol=0)
    pd.testing.assert_frame_equal(found, expected)


def test_mistakes_of_actors_and_of_the_reader_are_one_line(finished_run, rows, ray_session, tmp_path):
    job = job_of(finished_run.model_dir, rows, tmp_path / "out.csv", request=Request(entities=True))
    with pytest.raises(UserError, match="^--entities: a model of task 'classification' gives none; leave it out$"):
        run_job(job, RayPool(1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("workers", "resources", "expected"),
    [
        (0, {"CPU": 8.0}, (7, 1.0, 0, 0)),
        (0, {"CPU": 1.0}, (1, 0.9, 0, 0)),
        (8, {"CPU": 8.0}, (8, 0.987, 0, 0)),
        (16, {"CPU": 8.0}, (16, 0.493, 0, 0)),
        (2, {"CPU": 8.0}, (2, 1.0, 0, 0)),
        (0, {"CPU": 16.0, "GPU": 2.0}, (2, 7.0, 1, 0)),
        (1, {"CPU": 16.0, "GPU": 2.0}, (1, 15.0, 1, 0)),
        (0, {"CPU": 4.0, "TPU": 4.0}, (4, 0.975, 0, 1)),
    ],
)
def test_actors_leave_the_reader_its_share(workers, resources, expected):
    share = share_of_actor(workers, resources)
    assert tuple(share) == expected
    assert share.workers * share.cpus <= resources["CPU"] - 0.1


def test_more_actors_than_accelerators():
    with pytest.raises(ConfigError, match="--workers 3 takes as many GPUs, and there are 2"):
        share_of_actor(3, {"CPU": 8.0, "GPU": 2.0})


def test_rows_that_changed_after_the_survey(finished_run, rows, ray_session, tmp_path):
    """The reader of the pool complains in one line, as that of one process does."""
    for engine in (answered_here, RayPool(1)):
        data = tmp_path / "in.csv"
        data.write_text("id,title,body\n" + "1,good,bad\n" * 200)

        def changed(*arguments, engine=engine, data=data):
            data.write_bytes(b"id,title,body\n" + b"1,good,bad\n" * 150 + b"\xff\n")
            yield from engine(*arguments)

        with pytest.raises(DataError if engine is answered_here else UserError, match="byte 0xff in line 152"):
            run_job(job_of(finished_run.model_dir, data, tmp_path / "out.csv"), changed, overwrite=True)
