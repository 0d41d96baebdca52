"""`ReadoutNetwork`: a network with one readout, on all devices, in a few batch shapes."""

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from threading import Lock

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.data.rows.labelled_rows import Rows
from bertjax.devices.data_parallel import Devices
from bertjax.inference.loaded_model import LoadedModel
from bertjax.inference.text_reader import TextReader
from bertjax.prediction.batcher import bucket_layouts, bucketed_batches
from bertjax.prediction.forward import Forward, predict
from bertjax.tasks import Params, with_head
from bertjax.tasks.readout import Readout


class ReadoutNetwork:
    """From texts to the scores of a readout; several threads may call it.

    Attributes:
      readout: how the network is read.
      reader: makes rows of texts.
    """

    def __init__(self, devices: Devices, params: Params, loaded: LoadedModel, tokenizing: Lock, readout: Readout):
        """With parameters that are placed on the devices.

        Args:
          devices: where it computes.
          params: placed on them.
          loaded: the model.
          tokenizing: held while its tokenizer works, which has its longest length as a state.
          readout: how the network is read.
        """
        self.readout = readout
        self.reader = TextReader(readout.format, loaded.table, loaded.preprocessing, loaded.model.labels)
        self._loaded = loaded
        self._tokenizing = tokenizing
        self._devices = devices
        self._params = params
        self._forward = Forward(devices, with_head(loaded.model, readout.head), readout.scores)

    def encode(self, rows: Rows) -> Examples:
        """Rows of `reader` as examples.

        Raises:
          DataError: rows that the format cannot use.
        """
        with self._tokenizing:
            return self._loaded.encode(rows, "the texts", self.readout.format)

    def scores(self, parts: Sequence[Examples]) -> list[np.ndarray]:
        """The scores of several sets of examples, computed in joint batches: for each set [n, ...] float32, one entry
        an example, or a token where tokens are scored.

        Args:
          parts: one set or more, all of one kind.
        """
        scores = predict(
            partial(self._forward, self._params),
            self._devices.count,
            self._loaded.model.task,
            parts[0].joined(parts[1:]),
            bucketed_batches,
            self.readout.scores_of,
        )
        of_tokens = self.readout.scores_of == "tokens"
        counts = [int(part.offsets[-1]) if of_tokens else part.num_examples for part in parts]
        return np.split(scores, np.cumsum(counts)[:-1])

    def compile(self, longest: int, most_texts: int | None) -> None:
        """Compiles every shape that texts up to a length have in batches.

        Args:
          longest: tokens of the longest text.
          most_texts: texts of a batch, at most; None: any number.
        """
        kind = self.encode(self.reader.rows([self.readout.format.sample])).kind
        layouts = bucket_layouts(longest * kind.texts, self._devices.count, kind.texts)
        for _, of_length in groupby(layouts, key=lambda layout: layout.row_length):
            for layout in of_length:
                self._forward.compile(self._params, layout, kind)
                if most_texts is not None and layout.rows >= most_texts:
                    break

    @property
    def computed_tokens(self) -> int:
        """Tokens of all batches so far, with their padding."""
        return self._forward.computed_tokens

    @property
    def num_compiled(self) -> int:
        """Shapes that were compiled."""
        return self._forward.num_compiled
