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

__all__ = ["LabelingFunction", "gazetteer", "keywords", "labeling_function", "model_votes", "regex", "similar_to"]
