"""`ReadoutNetwork`: a network under one readout, on all devices, which computes in a few shapes."""

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from bertjax.batch import LabelKind
from bertjax.data.encode.examples import Examples
from bertjax.prediction.batcher import bucket_layouts, bucketed_batches
from bertjax.prediction.devices import Devices
from bertjax.prediction.predict import Forward, predict
from bertjax.tasks import Model, Params, with_head
from bertjax.tasks.readout import Readout


class ReadoutNetwork:
    """Computes the scores of a readout; several threads may call it.

    Attributes:
      readout: how the network is read.
    """

    def __init__(self, devices: Devices, params: Params, model: Model, readout: Readout):
        """With parameters that are placed on the devices."""
        self.readout = readout
        self._task = model.task
        self._devices = devices
        self._params = params
        self._forward = Forward(devices, with_head(model, readout.head), readout.scores)

    def scores(self, parts: Sequence[Examples]) -> list[np.ndarray]:
        """The scores of several sets of examples, computed in joint batches: for each set [n, ...] float32, one entry
        an example, or a token where tokens are scored.

        Args:
          parts: one set or more, all of one kind.
        """
        scores = predict(
            partial(self._forward, self._params),
            self._devices.count,
            self._task,
            parts[0].joined(parts[1:]),
            bucketed_batches,
            self.readout.scores_of,
        )
        of_tokens = self.readout.scores_of == "tokens"
        counts = [int(part.offsets[-1]) if of_tokens else part.num_examples for part in parts]
        return np.split(scores, np.cumsum(counts)[:-1])

    def compile(self, lengths: Iterable[int], most_texts: int | None, kind: LabelKind) -> None:
        """Compiles every shape that examples of some lengths have in batches.

        Args:
          lengths: tokens of the longest example of a batch.
          most_texts: examples of a batch, at most; None: any number.
          kind: of their labels.
        """
        for longest in sorted(set(lengths)):
            layouts = bucket_layouts(longest, self._devices.count, kind.texts)
            of_length = [layout for layout in layouts if layout.row_length == layouts[-1].row_length]
            for layout in of_length:
                self._forward.compile(self._params, layout, kind)
                if most_texts is not None and layout.rows >= most_texts:
                    break

    @property
    def num_compiled(self) -> int:
        """Shapes that were compiled."""
        return self._forward.num_compiled
