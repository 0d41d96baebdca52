"""Task formats: how the rows of a table become labelled examples, one value a task (`Task.format`)."""

from bertjax.data.task_formats.task_format import Encoding, TaskFormat

__all__ = ["Encoding", "TaskFormat"]
