"""The model that MLflow runs: each saved model has a copy of this file, which bertjax never imports."""

from typing import Any

import mlflow
import pandas as pd

import bertjax


class TextModel(mlflow.pyfunc.PythonModel):
    """A frame in, with the columns that the model was trained on, or `text` (and `text_pair` for pairs) with them
    joined already; a frame of predictions out."""

    def load_context(self, context: Any) -> None:
        """Loads the model folder that was saved with this file."""
        self._predictor = bertjax.Predictor.load(context.artifacts["model"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row of predictions for each row of texts."""
        if set(self._predictor.columns) & set(model_input.columns):
            return pd.DataFrame(self._predictor(model_input), index=model_input.index)
        columns = [column for column in ("text", "text_pair") if column in model_input.columns]
        texts = [row[0] if len(row) == 1 else row for row in model_input[columns].itertuples(index=False, name=None)]
        return pd.DataFrame(self._predictor(texts), index=model_input.index)


mlflow.models.set_model(TextModel())
