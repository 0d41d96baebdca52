"""`explore_table`: a look at a table, by the names of its task and of the model that is to read it."""

from bertjax.config import BertConfig, read_config_json
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.split.read_splits import check_settings
from bertjax.data.table import Table
from bertjax.eda.exploration import Exploration
from bertjax.eda.explore import Explored, explore
from bertjax.eda.facts.token_lengths import ModelLimits
from bertjax.pretrained.files import resolve_model
from bertjax.stage_progress import UNSHOWN, StageProgress
from bertjax.tasks import find_format

_EXPLORATION = Exploration()


def explore_table(
    table: Table,
    *,
    task: str = "classification",
    model: str = "minilm-l6",
    max_length: int = 128,
    batch_size: int = 32,
    settings: Exploration = _EXPLORATION,
    all_rows: bool = False,
    progress: StageProgress = UNSHOWN,
) -> Explored:
    """Looks at the rows of `table.train`, and compares them with those of its other tables; what `bertjax eda` does.

    Args:
      table: the rows, and how they are read.
      task: to read them for.
      model: whose word pieces are counted: a folder, a hub id, a name of the catalog, or `models:/NAME@ALIAS`.
      max_length: the longest example, in tokens.
      batch_size: examples of a batch, to see what packing makes of them.
      settings: of what is looked for.
      all_rows: whether to look at all rows, however many; a sample of `settings.sample_rows` else.
      progress: shows the stages.

    Returns:
      What was found: `findings` as plain values, `table()` for a terminal or a notebook, `html()` as a page.

    Raises:
      DataError: a source, column or text that cannot be used.
      ConfigError: settings that contradict each other or the task, or no such model.
    """
    task_format = find_format(task)
    check_settings(table, task_format)
    folder = resolve_model(model, progress)
    hidden_size = BertConfig.from_hugging_face(read_config_json(folder)).hidden_size
    limits = ModelLimits(model, load_tokenizer(folder), hidden_size, max_length, batch_size)
    return explore(table, task_format, limits, settings, all_rows, progress)
