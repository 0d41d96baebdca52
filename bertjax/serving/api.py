"""The bodies of requests and responses, typed and strict, and how a request's JSON is read."""

import json
import math
from typing import Annotated, Any

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from bertjax.errors import DataError, first_line
from bertjax.inference.predictor import Text
from bertjax.tasks.postprocess import AnswerOptions

_DEEPEST = 16  # levels of lists and objects in a body; a request has five
_LONGEST_INT = 300  # digits; longer ones are no float

Words = Annotated[list[str], Field(min_length=1)]
Pair = Annotated[list[str | Words], Field(min_length=2, max_length=2)]
Row = dict[str, JsonValue]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class PredictRequest(BaseModel):
    """What is to be predicted, in exactly one form, and what is asked of the answers.

    The columns that the model was trained on may stand beside the options: `{"title": ..., "description": ...}`.
    """

    model_config = ConfigDict(
        strict=True,
        extra="allow",
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"text": "what a film"},
                {"texts": ["what a film", "how dull"], "top_k": 2},
                {"pair": ["who wrote it ?", "it was written by Ada"]},
                {"rows": [{"title": "a title", "description": "a description"}], "threshold": 0.5},
            ]
        },
    )
    __pydantic_extra__: dict[str, JsonValue]

    text: str | Words | None = Field(None, description="A text; where words are labelled, perhaps a list of words.")
    texts: list[str | Words] | None = Field(None, description="Several texts.")
    pair: Pair | None = Field(
        None, description="Two texts; of a multiple choice a question and the list of its candidates."
    )
    pairs: list[Pair] | None = Field(None, description="Several pairs.")
    rows: list[Row] | None = Field(None, description="Rows: the cells of the columns that the model was trained on.")
    top_k: int = Field(0, ge=0, le=1000, description="How many of the likeliest answers to list under `top`.")
    threshold: float | None = Field(None, description="The least probability of a label that is given.")
    probabilities: bool = Field(False, description="Whether to give the probability of every label.")
    explain: bool = Field(
        False, description="Whether to give the weight of each word under `explanation`: few texts, as it takes long."
    )

    def entries(self, columns: tuple[str, ...]) -> list[Text]:
        """The texts, pairs or rows that are asked for.

        Args:
          columns: that the model was trained on.

        Raises:
          DataError: none or several forms, or a key that is neither option nor column.
        """
        columns_given = self.__pydantic_extra__ or {}
        if unknown := sorted(set(columns_given) - set(columns)):
            raise DataError(f"unknown key {unknown[0]!r}; a request has {_forms(columns)}")
        forms: dict[str, list[Any] | None] = {
            "text": None if self.text is None else [self.text],
            "texts": self.texts,
            "pair": None if self.pair is None else [tuple(self.pair)],
            "pairs": None if self.pairs is None else [tuple(pair) for pair in self.pairs],
            "rows": self.rows,
            "columns": [columns_given] if columns_given else None,
        }
        given = {form: entries for form, entries in forms.items() if entries is not None}
        if len(given) != 1:
            found = f", not {' and '.join(given)}" if given else ""
            raise DataError(f"give one of {_forms(columns)}{found}")
        ((form, entries),) = given.items()
        if not entries:
            raise DataError(f"{form} is empty")
        return entries

    @property
    def options(self) -> AnswerOptions:
        """What is asked of the answers."""
        return AnswerOptions(self.top_k, self.threshold)


class EvaluateRequest(_Strict):
    """Labelled rows."""

    rows: list[Row] = Field(min_length=1, description="Rows with the columns of the training rows, the label included.")


class EmbedRequest(_Strict):
    """Texts whose vectors are asked for; one of the two."""

    text: str | None = Field(None, description="A text.")
    texts: list[str] | None = Field(None, description="Several texts.")

    def entries(self) -> list[str]:
        """The texts.

        Raises:
          DataError: none or both are given, or there is no text.
        """
        if (self.text is None) == (self.texts is None):
            raise DataError('give {"text": ...} or {"texts": [...]}')
        if not (entries := [self.text] if self.text is not None else self.texts or []):
            raise DataError("texts is empty")
        return entries


class LoadRequest(_Strict):
    """A model to put in service."""

    model: str = Field(description="A name that the server was started with.")


class ModelIdentity(_Strict):
    """Which model answered."""

    name: str = Field(description="The name under which the server knows it.")
    run_id: str | None = Field(description="The tracker's id of the run that trained it, where known.")
    number: int = Field(description="Counts the models that the server has put in service, from 1.")


class Predictions(_Strict):
    """An answer to each text, in their order."""

    predictions: list[dict[str, Any]]
    model: ModelIdentity


class Evaluation(_Strict):
    """How the predictions compare with the labels."""

    metrics: dict[str, float | None] = Field(description="Under the names that `bertjax evaluate` has.")
    summary: str
    rows: int = Field(description="Rows that were judged: those that have text after the model's preprocessing.")
    model: ModelIdentity


class Embeddings(_Strict):
    """A vector of length 1 for each text, in their order."""

    embeddings: list[list[float]]
    model: ModelIdentity


class ModelFacts(_Strict):
    """The model in service."""

    model: ModelIdentity
    task: str
    labels: list[str]
    columns: list[str] = Field(description="Columns that the model was trained on; none where it was saved without.")
    max_length: int = Field(description="Longest text, in tokens; what is longer is cut.")
    metrics: dict[str, float | None] = Field(description="That its run reached, where they are beside its folder.")
    versions: dict[str, str]
    models: list[str] = Field(description="Names that `POST /model` takes.")


class Status(_Strict):
    """Whether the server is well, or ready."""

    status: str


class Problem(_Strict):
    """What is wrong with a request."""

    detail: str


class StrictRequest(Request):
    """A request whose body is JSON as the standard has it, and no deeper than what a request can mean."""

    async def json(self) -> Any:
        """The parsed body.

        Raises:
          HTTPException: see `parse_json`.
        """
        return parse_json(await self.body())


def parse_json(body: bytes) -> Any:
    """Parses a body.

    Raises:
      HTTPException: it is no JSON (400), or has half of a surrogate pair in a text (422).
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite_float, parse_int=_finite_int)
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"the body is not UTF-8: byte {error.start + 1} is wrong") from None
    except json.JSONDecodeError as error:
        raise HTTPException(400, f"the body is no JSON: {error.msg} (character {error.pos + 1})") from None
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is no JSON that can be read: {first_line(error)}") from None
    if _is_deeper(value, _DEEPEST):
        raise HTTPException(400, f"the body is nested more than {_DEEPEST} levels deep")
    if "\\ud" in text.lower() and not _is_unicode(value):
        raise HTTPException(422, "a text has half of a surrogate pair, which is no character")
    return value


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _finite_float(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _finite_int(digits: str) -> int:
    if len(digits) > _LONGEST_INT:
        raise ValueError(f"the number {digits[:20]}... is too large")
    return int(digits)


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested in more levels."""
    level = [value]
    for _ in range(levels + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        level = [item for held in containers for item in (held.values() if isinstance(held, dict) else held)]
        if not level:
            return False
    return True


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _forms(columns: tuple[str, ...]) -> str:
    """The keys that a request may have."""
    row = f", the columns {', '.join(columns)}" if columns else ""
    return f"text, texts, pair, pairs, rows{row}, and perhaps top_k, threshold, probabilities, explain"
