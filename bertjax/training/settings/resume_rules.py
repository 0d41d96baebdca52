"""Which changes since the last checkpoint a resumed run accepts: a rule for each setting and each other fingerprint.

Any change is refused without `--allow-changed`. With it, the run continues as if it had had the current settings from
the start, and a change for which that is impossible is refused with the reason.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from bertjax.errors import RunFolderError
from bertjax.settings import flatten
from bertjax.training.settings.finetune_config import FineTuneConfig

Effect = Literal["fixed", "between epochs", "from here", "decided again", "not computed with"]
"""What the change of a setting does.

fixed: it is refused.
between epochs: it is in force from the next epoch on; within an epoch it is refused.
from here: the steps that are left are computed with it.
decided again: what was decided by the evaluations so far is decided again, by the present settings.
not computed with: it changes no number.
"""


class Rule(NamedTuple):
    """What the change of a setting does.

    Attributes:
      reason: why it is refused, where it is.
      refuses: (before, now) -> whether this change is refused although others are not.
    """

    effect: Effect
    reason: str = ""
    refuses: Callable[[Any, Any], bool] = lambda before, now: False


_OTHER_ARRAYS = "the optimizer's state would have other arrays"
_START = Rule("fixed", "it is used before the first step only")
_STATE = Rule("fixed", _OTHER_ARRAYS)
_SWITCH = Rule("from here", _OTHER_ARRAYS, lambda before, now: bool(before) != bool(now))

# Setting, or group of them with `.*` -> rule; the more exact name wins.
RULES: Mapping[str, Rule] = {
    "model": Rule("not computed with"),  # `weights` has the bytes, and `tokenizer` the vocabulary
    "weights": Rule("fixed", "the weights of a resumed run are those of its checkpoint"),
    "tokenizer": Rule("fixed", "the word embeddings belong to its entries"),
    "data.train": Rule("not computed with"),  # `train_rows` has the rows
    "data.validation": Rule("not computed with"),
    "data.test": Rule("not computed with"),
    "train_rows": Rule("from here"),
    "validation_rows": Rule("decided again"),
    "test_rows": Rule("from here"),
    "data.*": Rule("between epochs"),
    "task": Rule("fixed", "the network has another head"),
    "standardize_targets": Rule("fixed", "the head has learned in the other unit"),
    "target_scale": Rule(
        "fixed",
        "the head has learned in standard deviations of the rows that it began with; a new run from its model/ "
        "(--model) learns in those of the present rows",
    ),
    "pooling": Rule("fixed", "the network has another head"),
    "max_length": Rule("between epochs"),
    "epochs": Rule("from here"),
    "batch_size": Rule("between epochs"),
    "accumulate": Rule("from here"),
    "packing": Rule("from here"),
    "seed": Rule("fixed", "the head and the order of examples began with the other one"),
    "dropout_rate": Rule("from here"),
    "engine": Rule("from here"),
    "freeze": _STATE,
    "lora.rank": _STATE,
    "lora.alpha": Rule("fixed", "the adapters have learned under the other factor"),
    "lora.dropout": Rule("from here"),
    "lora.targets": _STATE,
    "init_missing": _START,
    "drop": _START,
    "resize_embeddings": _START,
    "execution.*": Rule("from here"),
    "optimizer.*": Rule("from here"),
    "optimizer.name": _STATE,
    "optimizer.clip_norm": _SWITCH,
    "optimizer.ema_decay": _SWITCH,
    "optimizer.schedule": Rule("from here", _OTHER_ARRAYS, lambda *schedules: "reduce_on_plateau" in schedules),
    "optimizer.plateau_factor": Rule("decided again"),
    "optimizer.plateau_patience": Rule("decided again"),
    "masking.*": Rule("from here"),
    "imbalance.*": Rule("from here"),
    "imbalance.oversample": Rule("between epochs"),
    "regularization.r_drop": Rule("from here"),
    "regularization.mixout": _SWITCH,
    "distillation.*": Rule("from here"),
    "distillation.teacher": Rule("not computed with"),  # `teacher` has the bytes
    "teacher": Rule("from here"),
    "evaluation.*": Rule("from here"),
    "evaluation.best_metric": Rule("decided again"),
    "evaluation.best_mode": Rule("decided again"),
    "simple_models.*": Rule("not computed with"),
    "judging.*": Rule("not computed with"),
    "early_stopping.patience": Rule("decided again"),
    "early_stopping.min_improvement": Rule("decided again"),
    "early_stopping.max_skipped_steps": Rule("from here"),
    "checkpointing.*": Rule("not computed with"),
    "experiment": Rule("fixed", "the run is recorded in the experiment that it began in"),
    "tracking": Rule("fixed", "the run is recorded where it began"),
    "register": Rule("not computed with"),
    "devices": Rule("from here"),
    "prng": Rule("from here"),
    "bertjax": Rule("from here"),
    "jax": Rule("from here"),
}


# What is known of a checkpoint of the version that recorded none of this.
BEFORE_FACTS = {"bertjax": "0.1.0"}


def rule_of(key: str) -> Rule:
    """The rule for a setting, by its dotted path, or for another fact of a run.

    >>> rule_of("optimizer.warmup").effect, rule_of("optimizer.name").effect
    ('from here', 'fixed')
    """
    return RULES[key] if key in RULES else RULES[f"{key.partition('.')[0]}.*"]


class Change(NamedTuple):
    """A setting or another fact of a run, as it was and as it is."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} was {self.before!r}, now {self.now!r}"

    @property
    def effect(self) -> Effect:
        """What it does to the run."""
        return rule_of(self.key).effect

    @property
    def refusal(self) -> str | None:
        """Why no run can make this change half-way; None where it can."""
        rule = rule_of(self.key)
        return rule.reason if rule.effect == "fixed" or rule.refuses(self.before, self.now) else None


def changes_between(stored: Mapping[str, Any], present: Mapping[str, Any]) -> list[Change]:
    """What differs between the facts that a run recorded and those at hand, by key.

    What its version did not record has not changed; settings that are left out of `present` are not compared.
    """
    left_out = flatten(FineTuneConfig()).keys() - present.keys()
    compared = sorted((key, value, present.get(key)) for key, value in stored.items() if key not in left_out)
    return [Change(key, before, now) for key, before, now in compared if before != now]


def listed(changes: Sequence[Change]) -> str:
    """Changes in one line."""
    return "; ".join(map(str, changes))


def check_changes(folder: object, changes: Sequence[Change], allowed: bool) -> None:
    """Checks that a run may continue with what has changed.

    Raises:
      RunFolderError: something has changed and `allowed` is False, or it cannot change half-way.
    """
    if changes and not allowed:
        raise RunFolderError(
            f"{folder} was started with other settings or data: {listed(changes)}; --allow-changed continues anyway"
        )
    for change in changes:
        if change.refusal:
            raise RunFolderError(
                f"{folder} cannot continue with this, even under --allow-changed: {change}; {change.refusal}"
            )
