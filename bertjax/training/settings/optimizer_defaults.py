"""Optimizer defaults, as published: the settings that each optimizer reads, and their values.

Learning rates are not constants of an algorithm: these suit the fine-tuning of MiniLM, in the proportion to AdamW's
that the authors advise.
"""

from collections.abc import Mapping

# Optimizer -> field of `Optimizer` -> its default. The optimizer reads no other field.
OPTIMIZERS: Mapping[str, Mapping[str, float | str]] = {
    # Loshchilov and Hutter 2019, arXiv:1711.05101; decay as in BERT
    "adamw": {
        "learning_rate": 1e-4, "weight_decay": 0.01, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "schedule": "linear",
    },
    # You et al. 2020, arXiv:1904.00962
    "lamb": {
        "learning_rate": 1e-3, "weight_decay": 0.01, "b1": 0.9, "b2": 0.999, "eps": 1e-6, "schedule": "linear",
    },
    # Shazeer and Stern 2018, arXiv:1804.04235: relative steps, factored second moment, no first one
    "adafactor": {"learning_rate": 1e-3, "weight_decay": 0.0, "eps": 1e-30, "schedule": "linear"},
    # Chen et al. 2023, arXiv:2302.06675: a rate 3 to 10 times below AdamW's, a decay as many times above
    "lion": {"learning_rate": 2e-5, "weight_decay": 0.05, "b1": 0.9, "b2": 0.99, "schedule": "linear"},
    # Sutskever et al. 2013; a decay is decoupled, as in Loshchilov and Hutter's SGDW
    "sgd": {"learning_rate": 1e-2, "weight_decay": 0.0, "momentum": 0.9, "schedule": "linear"},
    # Defazio et al. 2024, arXiv:2405.15682: averages instead of a decaying learning rate
    "schedule_free_adamw": {
        "learning_rate": 3e-4, "weight_decay": 0.0, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "schedule": "constant",
    },
    # Jordan et al. 2024, at AdamW's size of update (Liu et al. 2025, arXiv:2502.16982); Adam for the rest
    "muon": {
        "learning_rate": 1e-4, "weight_decay": 0.1, "momentum": 0.95, "b1": 0.9, "b2": 0.999, "eps": 1e-8,
        "schedule": "linear",
    },
}  # fmt: skip

SCHEDULES = ("linear", "cosine", "constant", "inverse_sqrt", "polynomial", "reduce_on_plateau")
