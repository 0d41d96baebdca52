"""Tasks: everything specific to a task is in its entry of `TASKS`; `register_task` adds one."""

from bertjax.tasks.kept_layers import keep_layers
from bertjax.tasks.network import Model, Params, initialised, make_model, parameter_shapes, weight_table, with_head
from bertjax.tasks.registry import (
    TASKS,
    find_evaluator,
    find_format,
    find_postprocess,
    find_readout,
    find_task,
    find_torch_task,
    find_vectors,
    register_task,
)
from bertjax.tasks.task import Metric, Task, TorchTask

__all__ = [
    "TASKS",
    "Metric",
    "Model",
    "Params",
    "Task",
    "TorchTask",
    "find_evaluator",
    "find_format",
    "find_postprocess",
    "find_readout",
    "find_task",
    "find_torch_task",
    "find_vectors",
    "initialised",
    "keep_layers",
    "make_model",
    "parameter_shapes",
    "register_task",
    "weight_table",
    "with_head",
]
