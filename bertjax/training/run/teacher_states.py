"""Distillation from a teacher's hidden states (Jiao et al. 2020, arXiv:1909.10351, section 3.1).

A separate program computes them for each batch, after it is copied to the devices and before the step, and adds them to
the batch as one more array. They are too large to be stored for all examples, some thousand numbers per token. Teacher
and student read the same tokens, so they must have the same tokenizer.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float
from transformers import PreTrainedTokenizerFast

from bertjax.batch import Batch
from bertjax.config import BertConfig
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.pretrained_tokenizer import tokenizer_digest
from bertjax.data.encode.token_checks import check_segments
from bertjax.data.split.read_splits import Split
from bertjax.devices.data_parallel import Devices
from bertjax.devices.made_once import made_once
from bertjax.errors import ConfigError
from bertjax.model.bert import Bert, ForwardOptions
from bertjax.model.heads import BertOutput, HeadConfig
from bertjax.prediction.forward import Forward, Scores
from bertjax.tasks import Model, Params, with_head
from bertjax.training.run.teacher import Teacher
from bertjax.training.settings.finetune_config import FineTuneConfig


class TeacherStates(NamedTuple):
    """The part of a teacher whose hidden states are learned from.

    Attributes:
      model: the network without its head.
      params: its parameters, on the host.
      layers: those that are read, one for each pair of `--teacher-layers`; 0 is the embeddings.
    """

    model: Model
    params: Params
    layers: tuple[int, ...]

    def placed(self, devices: Devices) -> Callable[[Batch], Batch]:
        """With a copy of its parameters on each device: rows there -> the same rows with `teacher_hidden_states`."""
        forward, params = Forward(devices, self.model, _states_of(self.layers)), devices.place(self.params)
        return lambda rows: rows._replace(teacher_hidden_states=forward.of_rows(params, rows))


def teacher_states(
    teacher: Teacher,
    config: FineTuneConfig,
    architecture: BertConfig,
    tokenizer: PreTrainedTokenizerFast,
    train: Split,
) -> TeacherStates | None:
    """The hidden states that a run learns from; None where its settings name no layers.

    Args:
      teacher: of the run.
      config: of the run.
      architecture: of the student.
      tokenizer: of the student.
      train: the training rows.

    Raises:
      UserError: a layer that is not there, or a teacher of another tokenizer or width, or that takes other texts.
    """
    pairs, theirs = config.distillation.layer_pairs, teacher.loaded.model.config
    if not pairs:
        return None
    if tokenizer_digest(tokenizer) != tokenizer_digest(teacher.loaded.tokenizer):
        raise ConfigError(
            f"--teacher-layers compares what two networks make of the same tokens, and --teacher {teacher.name} has "
            f"another tokenizer than --model {config.model}; leave --teacher-layers out"
        )
    if theirs.hidden_size != architecture.hidden_size:
        raise ConfigError(
            f"--teacher-layers: the hidden states of --teacher {teacher.name} have {theirs.hidden_size} numbers, those "
            f"of --model {config.model} {architecture.hidden_size}; choose a teacher of the same width, or leave it out"
        )
    for place, (whose, network) in enumerate(((config.model, architecture), (teacher.name, theirs))):
        for pair in pairs:
            if pair[place] > network.num_layers:
                raise ConfigError(
                    f"--teacher-layers {pair[0]}:{pair[1]}: {whose} has layers 1 to {network.num_layers} (0 is the "
                    f"embeddings), not {pair[place]}"
                )
    if config.max_length > theirs.max_length:
        raise ConfigError(
            f"--teacher-layers: --max-length {config.max_length} is above the {theirs.max_length} positions of "
            f"--teacher {teacher.name}"
        )
    assert isinstance(train.examples, Examples), "rows in memory have examples in memory"
    check_segments(train.examples, theirs, f"--teacher-layers: {train.source}")
    return TeacherStates(with_head(teacher.loaded.model, _headless), teacher.loaded.params, tuple(t for _, t in pairs))


def _headless(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """The hidden states alone. XLA leaves out the layers above the last one that is read."""
    encoded, _ = Bert(head_config.config)(batch, options._replace(hidden_states=True))
    return BertOutput(None, None, encoded.hidden_states, None)


@made_once
def _states_of(layers: tuple[int, ...]) -> Scores:
    def states(output: BertOutput, batch: Batch) -> Float[Array, "B T K D"]:
        assert output.hidden_states is not None, "the network returns them"
        return jnp.stack([output.hidden_states[layer] for layer in layers], axis=2)

    return states
