"""Checkpoints that transformers itself made and saved, one for each task."""

from pathlib import Path

import pytest
import torch
import transformers

from bertjax.members import find_member
from bertjax.tasks import TASKS
from tests.support.models import SMALL, of_a_member_with

LABELS = ("no", "maybe", "yes")


def reference_of(task: str, sigma: float) -> torch.nn.Module:
    """transformers' model of a task with normal weights; at Hugging Face's own scale a wrong GELU would hide."""
    row, config = TASKS[task], of_a_member_with(task, SMALL)
    labels = {"id2label": dict(enumerate(LABELS)), "problem_type": row.problem_type} if row.names else {}
    member = find_member(config.model_type)
    theirs = getattr(transformers, f"{member.classes}Config")(**config.to_hugging_face(), **labels)
    torch.manual_seed(0)
    module = getattr(transformers, member.architecture(row.architecture))(theirs)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, sigma)
    return module


@pytest.fixture(scope="session", params=list(TASKS))
def their_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A task, and the folder of its checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints") / request.param
    reference_of(request.param, sigma=0.1).save_pretrained(folder)
    return request.param, folder
