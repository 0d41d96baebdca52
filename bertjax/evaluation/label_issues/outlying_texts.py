"""How far each text is from those most like it, by the vectors that the model makes of them."""

import numpy as np

from bertjax.evaluation.judged_rows import JudgedRows
from bertjax.inference.predictor import Predictor, Prepared
from bertjax.tasks import find_task, find_vectors

_NEIGHBOURS = 10


def neighbour_distances(judged: JudgedRows) -> np.ndarray | None:
    """[n] the mean cosine distance, from 0 to 2, of each row to the ten rows nearest to it (or all others where there
    are fewer); None where the model makes no vectors, or there is one row.

    Source: Kuan and Mueller 2022, "Back to the Basics: Revisiting Out-of-Distribution Detection Baselines"
    (arXiv:2207.03061), which cleanlab's `OutOfDistribution` computes, scaled.
    """
    loaded, rows = judged.loaded, judged.rows
    if find_task(loaded.model.task).pooling is None or not loaded.pooling_known or len(rows.texts) < 2:
        return None
    from sklearn.neighbors import NearestNeighbors

    examples = loaded.encode(rows, judged.source, find_vectors(loaded.model.task).format)
    (vectors,) = Predictor(loaded).compute([Prepared(rows, examples, vectors=True)])
    neighbours = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(vectors) - 1), metric="cosine").fit(vectors)
    distances, _ = neighbours.kneighbors()
    return distances.mean(axis=1)
