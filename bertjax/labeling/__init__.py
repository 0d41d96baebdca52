"""Weak supervision: a user's labelling functions make probabilistic labels. Their file imports what is listed here."""

from bertjax.labeling.labeling_functions import (
    LabelingFunction,
    gazetteer,
    keywords,
    labeling_function,
    model_votes,
    regex,
    similar_to,
)
from bertjax.labeling.load_functions import load_functions
from bertjax.labeling.weak_labels import weak_labels
from bertjax.labeling.weak_table import write_table

__all__ = [
    "LabelingFunction",
    "gazetteer",
    "keywords",
    "labeling_function",
    "load_functions",
    "model_votes",
    "regex",
    "similar_to",
    "weak_labels",
    "write_table",
]
