"""`Explainer`: why a model gives its answers."""

from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import NamedTuple

import numpy as np

from bertjax.data.rows.labelled_rows import Rows
from bertjax.devices.data_parallel import Devices, all_devices
from bertjax.errors import ConfigError
from bertjax.inference.explanations.explain_options import ExplainOptions
from bertjax.inference.explanations.explained_network import ExplainedNetwork, Question
from bertjax.inference.explanations.explanation import Explanation, WordWeight
from bertjax.inference.explanations.hidden_words import baseline_of, scores_of_hidden
from bertjax.inference.explanations.integrated_gradients import integrate
from bertjax.inference.explanations.lime_samples import check_lime, fit_lime
from bertjax.inference.explanations.occlusion import occlude
from bertjax.inference.explanations.placed_text import PlacedText
from bertjax.inference.explanations.targets import Candidate, Target, kind_of
from bertjax.inference.loaded_model import LoadedModel
from bertjax.tasks import TASKS, Params, find_postprocess, find_readout
from bertjax.tasks.postprocess import Prediction

_DEFAULTS = ExplainOptions()


def can_explain(task: str) -> bool:
    """Whether answers of a task are scores of labels, numbers, or parts of a text: these are explained."""
    return kind_of(task) is not None


class _Weighed(NamedTuple):
    """The weights of a text's words, [W], and what they add up to, as in `Explanation`."""

    of_words: np.ndarray
    score: float | None = None
    baseline_score: float | None = None
    gap: float | None = None
    steps: int | None = None


class Explainer:
    """A model that says which words its answers are due to; several threads may ask. It compiles when it is first asked
    about a text of a new length, by a few lengths."""

    def __init__(self, devices: Devices, params: Params, loaded: LoadedModel, tokenizing: Lock):
        """Costs nothing yet.

        Args:
          devices: where it computes.
          params: placed on them.
          loaded: the model.
          tokenizing: held while its tokenizer works.
        """
        self._devices, self._params, self._loaded, self._tokenizing = devices, params, loaded, tokenizing

    @classmethod
    def of(cls, loaded: LoadedModel) -> "Explainer":
        """The explainer of a model that nothing else uses."""
        devices = all_devices()
        return cls(devices, devices.place(loaded.params), loaded, Lock())

    def check(self, options: ExplainOptions) -> None:
        """Checks, before anything is computed, that there can be explanations.

        Raises:
          ConfigError: the model's task has none, a label that the method does not know of, or a missing package.
        """
        task = self._loaded.model.task
        find_postprocess(task)
        kind = kind_of(task)
        if kind is None:
            raise ConfigError(
                f"a model of task {task!r} has no score to explain; those of {', '.join(filter(can_explain, TASKS))} "
                f"have"
            )
        if options.word is not None and not kind.says_word:
            raise ConfigError(f"--word is for models that label words; this one's task is {task!r}")
        if options.method == "rollout" and options.label is not None:
            raise ConfigError("rollout follows attention, which is the same for every label; leave out the label")
        if options.method == "lime":
            check_lime()

    def explain(
        self, rows: Rows, answers: Sequence[Prediction], options: ExplainOptions = _DEFAULTS
    ) -> list[Explanation]:
        """The explanation of each answer.

        Args:
          rows: preprocessed texts.
          answers: of the model, one a row.
          options: what is asked of the explanations.

        Raises:
          ConfigError: see `check`; a label that the model does not have, or a word that a text does not have.
        """
        self.check(options)
        if not rows.texts:
            return []
        targets = self._targets(rows, answers, options)
        chosen = self._chosen(targets)
        weighed = self._weighed(chosen, options)
        return [
            Explanation(
                options.method,
                None if by.score is None else target.label,
                _weighted(text, by.of_words),
                text.texts,
                answer,
                by.score,
                by.baseline_score,
                by.gap,
                by.steps,
                text.cut_words,
                target.explained,
            )
            for target, (text, _), by, answer in zip(targets, chosen, weighed, answers, strict=True)
        ]

    def _targets(self, rows: Rows, answers: Sequence[Prediction], options: ExplainOptions) -> list[Target]:
        kind = kind_of(self._loaded.model.task)
        assert kind is not None, "checked"
        with self._tokenizing:
            placed = kind.place(self._loaded, rows)
        return [
            kind.target(self._loaded, windows, answer, options) for windows, answer in zip(placed, answers, strict=True)
        ]

    def _chosen(self, targets: Sequence[Target]) -> list[Candidate]:
        """Of each target the window by whose score the model answers."""
        questions = [of.question for target in targets if len(target.candidates) > 1 for of in target.candidates]
        scores = iter(self._network.scores(questions).tolist())
        chosen = []
        for target in targets:
            if len(target.candidates) > 1:
                of_windows = [next(scores) for _ in target.candidates]
                best = (min if target.takes_least else max)(of_windows)
                chosen.append(target.candidates[of_windows.index(best)])
            else:
                chosen.append(target.candidates[0])
        return chosen

    def _weighed(self, chosen: Sequence[Candidate], options: ExplainOptions) -> list[_Weighed]:
        questions = [question for _, question in chosen]
        if options.method == "integrated_gradients":
            integrals = integrate(self._network, questions, [baseline_of(text, self._hiding) for text, _ in chosen])
            return [
                _Weighed(text.word_sums(by.of_tokens), by.score, by.baseline_score, by.gap, by.points)
                for (text, _), by in zip(chosen, integrals, strict=True)
            ]
        if options.method == "rollout":
            flows = self._network.attention_flow(questions)
            return [_Weighed(text.word_sums(flow)) for (text, _), flow in zip(chosen, flows, strict=True)]
        return [self._by_hiding(text, question, options) for text, question in chosen]

    def _by_hiding(self, text: PlacedText, question: Question, options: ExplainOptions) -> _Weighed:
        scores = scores_of_hidden(self._network, text, question, self._hiding)
        if options.method == "occlusion":
            score, of_seen = occlude(scores, len(text.seen_words))
        else:
            score, of_seen = fit_lime(scores, len(text.seen_words), options.samples, options.seed)
        weights = np.zeros(len(text.words))
        weights[text.seen_words] = of_seen
        return _Weighed(weights, score)

    @cached_property
    def _network(self) -> ExplainedNetwork:
        readout = find_readout(self._loaded.model.task)
        return ExplainedNetwork(self._devices, self._params, self._loaded.model, readout)

    @property
    def _hiding(self) -> int:
        """The token that hides a word piece: [MASK], or [PAD] where a vocabulary has none."""
        tokenizer = self._loaded.tokenizer
        return tokenizer.pad_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id


def _weighted(text: PlacedText, weights: np.ndarray) -> tuple[WordWeight, ...]:
    return tuple(
        WordWeight(word.word, weight, word.start, word.part == 1)
        for word, weight in zip(text.words, weights.tolist(), strict=True)
    )
