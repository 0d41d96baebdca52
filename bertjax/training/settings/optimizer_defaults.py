"""Optimizer defaults, as published: the settings that each optimizer reads, and their values.

Learning rates are not constants of an algorithm: these suit the fine-tuning of MiniLM, in the proportion to AdamW's
that the authors advise.
"""

from collections.abc import Mapping
from typing import NamedTuple


class OptimizerDefaults(NamedTuple):
    """The settings of an optimizer.

    Attributes:
      source: the publication.
      settings: field of `Optimizer` -> its default. The optimizer reads no other field.
    """

    source: str
    settings: Mapping[str, float | str]


OPTIMIZERS: Mapping[str, OptimizerDefaults] = {
    "adamw": OptimizerDefaults(
        "Loshchilov and Hutter 2019, arXiv:1711.05101; decay as in BERT",
        {"learning_rate": 1e-4, "weight_decay": 0.01, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "schedule": "linear"},
    ),
    "lamb": OptimizerDefaults(
        "You et al. 2020, arXiv:1904.00962",
        {"learning_rate": 1e-3, "weight_decay": 0.01, "b1": 0.9, "b2": 0.999, "eps": 1e-6, "schedule": "linear"},
    ),
    "adafactor": OptimizerDefaults(
        "Shazeer and Stern 2018, arXiv:1804.04235: relative steps, factored second moment, no first one",
        {"learning_rate": 1e-3, "weight_decay": 0.0, "eps": 1e-30, "schedule": "linear"},
    ),
    "lion": OptimizerDefaults(
        "Chen et al. 2023, arXiv:2302.06675: a rate 3 to 10 times below AdamW's, a decay as many times above",
        {"learning_rate": 2e-5, "weight_decay": 0.05, "b1": 0.9, "b2": 0.99, "schedule": "linear"},
    ),
    "sgd": OptimizerDefaults(
        "Sutskever et al. 2013; a decay is decoupled, as in Loshchilov and Hutter's SGDW",
        {"learning_rate": 1e-2, "weight_decay": 0.0, "momentum": 0.9, "schedule": "linear"},
    ),
    "schedule_free_adamw": OptimizerDefaults(
        "Defazio et al. 2024, arXiv:2405.15682: averages in the place of a falling rate",
        {"learning_rate": 3e-4, "weight_decay": 0.0, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "schedule": "constant"},
    ),
    "muon": OptimizerDefaults(
        "Jordan et al. 2024, at AdamW's size of update (Liu et al. 2025, arXiv:2502.16982); Adam for the rest",
        {
            "learning_rate": 1e-4, "weight_decay": 0.1, "momentum": 0.95, "b1": 0.9, "b2": 0.999, "eps": 1e-8,
            "schedule": "linear",
        },
    ),
}  # fmt: skip

SCHEDULES = ("linear", "cosine", "constant", "inverse_sqrt", "polynomial", "reduce_on_plateau")
