"""Files of labelling functions."""

from pathlib import Path

import pytest

from bertjax.labeling.apply_functions import TextRows, Votes, apply_functions
from bertjax.labeling.load_functions import load_functions

IMPORTS = "from bertjax.labeling import gazetteer, keywords, labeling_function, model_votes, regex, similar_to\n"


@pytest.fixture
def functions_file(tmp_path: Path):
    """(source without the imports) -> the path of a file with it."""

    def functions_file(source: str, name: str = "functions.py") -> Path:
        path = tmp_path / name
        path.write_text(IMPORTS + source, encoding="utf-8")
        return path

    return functions_file


@pytest.fixture
def votes_of(functions_file):
    """(source, texts) -> what its functions say of the texts; a row has its text and its number `n` from 0."""

    def votes_of(source: str, *texts: str) -> Votes:
        rows = [{"text": text, "n": n} for n, text in enumerate(texts)]
        places = [f"row {n}" for n in range(1, len(texts) + 1)]
        return apply_functions(load_functions(functions_file(source)), TextRows(texts, rows, places, "t.csv"))

    return votes_of
