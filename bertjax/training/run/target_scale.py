"""Standardised regression targets: the network learns (number - mean) / standard deviation.

Outputs start near 0, and the learning rate suits outputs near 1, so targets such as prices would never be reached. The
output layer is linear, so the scale is folded into its weights when the network is evaluated and saved: its outputs,
and transformers' from the saved folder, are in the units of the table.

    D hidden size   L columns of numbers
"""

from typing import NamedTuple

import numpy as np

from bertjax.tasks import Params


class TargetScale(NamedTuple):
    """The mean and standard deviation of each column of training targets, and the linear module that predicts them.

    Attributes:
      module: Haiku path of a module with `w` [D, L] and `b` [L].
      mean, deviation: [L] float64; a constant column has deviation 1.
    """

    module: str
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, module: str, targets: np.ndarray) -> "TargetScale":
        """The scale of [N, L] targets."""
        values = targets.astype(np.float64)
        deviation = values.std(axis=0)
        return cls(module, values.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    @property
    def text(self) -> str:
        """The scale in words, exact."""
        return ", ".join(
            f"{mean!r} +- {sd!r}" for mean, sd in zip(self.mean.tolist(), self.deviation.tolist(), strict=True)
        )

    def standardized(self, targets: np.ndarray) -> np.ndarray:
        """[N, L] targets with mean 0 and standard deviation 1, float32."""
        return ((targets.astype(np.float64) - self.mean) / self.deviation).astype(np.float32)

    def in_units(self, outputs: np.ndarray) -> np.ndarray:
        """[..., L] outputs for standardised targets, in the units of the table."""
        return (outputs * self.deviation + self.mean).astype(np.float32)

    def folded(self, params: Params) -> Params:
        """Parameters of a network whose outputs are in the units of the table."""
        head = params[self.module]
        deviation, mean = self.deviation.astype(np.float32), self.mean.astype(np.float32)
        return {**params, self.module: {"w": head["w"] * deviation[None], "b": head["b"] * deviation + mean}}

    def unfolded(self, params: Params) -> Params:
        """The inverse of `folded`, for a head that is trained further."""
        head = params[self.module]
        deviation, mean = self.deviation.astype(np.float32), self.mean.astype(np.float32)
        return {**params, self.module: {"w": head["w"] / deviation[None], "b": (head["b"] - mean) / deviation}}
