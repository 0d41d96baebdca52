"""How rows are read: settings that a model folder keeps, so that other tables are read as those it was trained on.

The text columns are not among them: the preprocessing joins them, and has them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bertjax.data.table import Table
from bertjax.settings import flatten, override
from bertjax.training.settings.finetune_config import FineTuneConfig

_READING = (
    "data.label", "data.labels", "data.label_delimiter", "data.label_scale", "data.candidates", "data.doc_stride",
    "data.documents", "data.split_seed", "masking.mask_share", "masking.whole_words",
)  # fmt: skip


def reading_of(config: FineTuneConfig, table: Table) -> dict[str, Any]:
    """What differs from the defaults, by dotted path.

    Args:
      config: of the run.
      table: its settings, with the columns that were found.
    """
    used, default = flatten(replace(config, data=table)), flatten(FineTuneConfig())
    return {path: used[path] for path in _READING if used[path] != default[path]}


def with_reading(reading: Mapping[str, Any]) -> FineTuneConfig:
    """The inverse: a config that reads rows so.

    Raises:
      ConfigError: a setting that bertjax does not have.
    """
    return override(FineTuneConfig(), reading)
