"""The ONNX runner: the model that `jax` has trained with the same seed, exported through PyTorch, in ONNX Runtime.

It trains nothing. `torch.onnx.export` exports the network for any number of texts of any length.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from bertjax.baselines.runners.runner import RunnerInput, RunnerOutput
from bertjax.baselines.runners.runner_result import MODEL, run_folder
from bertjax.baselines.torch.torch_model import Inputs, answers_of, make_module, predict
from bertjax.batch import Pretraining
from bertjax.errors import ConfigError
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.tasks import Model, Params, find_torch_task


class _PositionalModule(torch.nn.Module):
    """The module with positional arguments and a tuple of outputs, as the export needs it."""

    def __init__(self, module: torch.nn.Module, model: Model):
        super().__init__()
        self.module, self._model = module, model

    def forward(self, *arrays: torch.Tensor) -> Any:
        inputs = dict(zip(_names(self._model), arrays, strict=True))
        answers = answers_of(self.module, self._model, inputs)
        return tuple(answers) if isinstance(answers, Pretraining) else answers


def _names(model: Model) -> tuple[str, ...]:
    """The inputs of the network, in the order of `torch_model.inputs_of`."""
    return ("input_ids", "attention_mask", *(("token_type_ids",) if model.config.type_vocab_size else ()))


def run(job: RunnerInput) -> RunnerOutput:
    """Exports the trained model and returns its predictions by ONNX Runtime."""
    folder = run_folder(job.out, "jax", job.config.seed) / MODEL
    if not folder.is_dir():
        raise ConfigError(f"{folder} is missing: onnx answers with what jax has trained, and that run left no model")
    model, params = from_pretrained(folder)
    session = make_session(model, params)
    return RunnerOutput(
        losses=[],
        speed=None,
        params=params,
        predict=lambda batch: predict(model, batch, partial(answer, session, model)),
        num_devices=1,
        device=session.get_providers()[0].removesuffix("ExecutionProvider").lower(),
    )


def make_session(model: Model, params: Params) -> Any:
    """The network in ONNX Runtime, for texts of any number and length."""
    names = _names(model)
    network = _PositionalModule(make_module(model, params).cpu(), model).eval()
    shape = (2, 3, 5) if find_torch_task(model.task).grouped_inputs else (2, 5)
    axes = dict.fromkeys(range(len(shape)), torch.export.Dim.DYNAMIC)
    example = tuple(torch.ones(shape, dtype=torch.long) for _ in names)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        torch.onnx.export(
            network,
            example,
            path,
            input_names=list(names),
            dynamic_shapes=(tuple(axes for _ in names),),
            dynamo=True,
            external_data=True,
            verbose=False,
        )
        return onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())


def answer(session: Any, model: Model, inputs: Inputs) -> Any:
    """The session's outputs for some texts, as `torch_model.answers_of` has them."""
    outputs = session.run(None, {name: tensor.cpu().numpy() for name, tensor in inputs.items()})
    return Pretraining(*outputs) if len(outputs) > 1 else np.asarray(outputs[0])
