"""Settings of reading rows that a model folder stores, so that other tables are read as the training table was.

The text columns are not among them: the stored preprocessing, which joins them, has them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bertjax.data.table import Table
from bertjax.settings import flatten, override
from bertjax.training.settings.finetune_config import FineTuneConfig

_READING = (
    "data.label", "data.labels", "data.label_delimiter", "data.labels_as", "data.label_names", "data.label_spelling",
    "data.tag_scheme", "data.label_scale", "data.candidates", "data.answer_as", "data.doc_stride",
    "data.documents", "data.split_seed", "masking.mask_share", "masking.whole_words",
)  # fmt: skip


def reading_of(config: FineTuneConfig, table: Table) -> dict[str, Any]:
    """The settings that differ from their defaults, by dotted path; `table` has the columns that were found."""
    used, default = flatten(replace(config, data=table)), flatten(FineTuneConfig())
    return {path: used[path] for path in _READING if used[path] != default[path]}


def with_reading(reading: Mapping[str, Any]) -> FineTuneConfig:
    """The inverse: the default config with these settings.

    Raises:
      ConfigError: an unknown setting.
    """
    return override(FineTuneConfig(), reading)
