"""Checkpoints that transformers itself made and saved, one for each task."""

from pathlib import Path

import pytest
import torch
import transformers

from bertjax.config import BertConfig
from bertjax.tasks import TASKS, Task
from tests.support.models import SMALL

LABELS = ("no", "maybe", "yes")


def reference_of(row: Task, sigma: float, config: BertConfig = SMALL) -> torch.nn.Module:
    """transformers' model of a task with normal weights; at Hugging Face's own scale a wrong GELU would hide."""
    labels = {"id2label": dict(enumerate(LABELS)), "problem_type": row.problem_type} if row.names else {}
    torch.manual_seed(0)
    module = getattr(transformers, row.architecture)(transformers.BertConfig(**config.to_hugging_face(), **labels))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, sigma)
    return module


@pytest.fixture(scope="session", params=list(TASKS))
def their_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A task, and the folder of its checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints") / request.param
    reference_of(TASKS[request.param], sigma=0.1).save_pretrained(folder)
    return request.param, folder
