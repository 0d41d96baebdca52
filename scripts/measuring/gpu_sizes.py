"""How large the jobs of `gpu_parts` are: `FULL` for a measurement, `SMOKE` for a test of the script."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from bertjax import BertConfig
from measuring.fresh_process import fresh

T = TypeVar("T")


class Sizes(NamedTuple):
    """How large everything is.

    Attributes:
      base, small: the networks, BERT-base and MiniLM's shape.
      full_rows: tokens of a row, and rows.
      rounds: turns of each side.
      steps: of a turn.
      warm: steps before the first turn.
      texts: of a data set.
      compiler: backend of `torch.compile`.
      own_process: whether jobs that need one have a fresh process.
    """

    base: BertConfig
    small: BertConfig
    full_rows: tuple[tuple[int, int], ...]
    rounds: int
    steps: int
    warm: int
    texts: int
    batch_sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    compiler: str
    own_process: bool

    def called(self, variables: Mapping[str, str], function: Callable[..., T], *args: Any) -> T:
        """The value of a function, in a fresh process."""
        return fresh(variables, function, *args) if self.own_process else function(*args)


MINILM = BertConfig(hidden_size=384, num_layers=6, num_heads=12, intermediate_size=1536)
FULL = Sizes(
    base=BertConfig(),
    small=MINILM,
    full_rows=((128, 32), (128, 256), (512, 32), (512, 64)),
    rounds=5,
    steps=20,
    warm=3,
    texts=5000,
    batch_sizes=(32, 128),
    seeds=(1, 4, 8),
    compiler="inductor",
    own_process=True,
)
_TINY = BertConfig(
    vocab_size=2000,
    hidden_size=32,
    num_layers=1,
    num_heads=2,
    intermediate_size=64,
    max_position_embeddings=128,
)
SMOKE = Sizes(
    base=_TINY,
    small=_TINY,
    full_rows=((8, 4),),
    rounds=1,
    steps=1,
    warm=0,
    texts=36,
    batch_sizes=(4,),
    seeds=(1, 2),
    compiler="eager",
    own_process=False,
)
