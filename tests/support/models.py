"""Networks small enough to compile in a second, and the words that their tokenizer knows."""

from dataclasses import replace
from typing import Any

import jax

from bertjax.config import BertConfig
from bertjax.members import MEMBERS
from bertjax.tasks import TASKS, make_model

TINY = BertConfig(
    vocab_size=64, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_position_embeddings=48
)
SMALL = BertConfig(
    vocab_size=101, hidden_size=48, num_layers=3, num_heads=4, intermediate_size=96, max_position_embeddings=40
)
WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "book", "a", "the", "what", "was", "not",
    "very", "plot", "song", "it", "and", "so", "dull", "great", "who", "how", "when", "where", "##s", ".", ",", "?",
]  # fmt: skip


def of_a_member_with(task: str, config: BertConfig = TINY) -> BertConfig:
    """A BERT's configuration as it is, or, for a task that BERT lacks, as one of the member that has it."""
    member = next(member for member in MEMBERS.values() if member.has(TASKS[task].architecture))
    if member.model_type == config.model_type:
        return config
    return replace(config, model_type=member.model_type, embedding_size=config.hidden_size // 2)


def network(config: BertConfig = TINY) -> tuple[Any, Any]:
    """A classifier of three classes and its first parameters."""
    model = make_model(config, "classification", ("a", "b", "c"))
    return model, model.init(jax.random.PRNGKey(0))


def without_dropout() -> tuple[Any, Any]:
    """`network`, whose forward pass in training is that of evaluation."""
    return network(replace(TINY, hidden_dropout_rate=0.0, attention_dropout_rate=0.0))
