"""`Explainer`: why a model gives its answers."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock

import numpy as np

from bertjax.data.encode.tokenize import tokenize_in_place
from bertjax.data.rows.labelled_rows import Rows
from bertjax.errors import ConfigError
from bertjax.inference.explanations.explain_options import ExplainOptions
from bertjax.inference.explanations.explained_network import ExplainedNetwork, Question
from bertjax.inference.explanations.explanation import Explanation, WordWeight
from bertjax.inference.explanations.hidden_words import baseline_of, scores_of_hidden
from bertjax.inference.explanations.integrated_gradients import integrate
from bertjax.inference.explanations.lime_samples import check_lime, fit_lime
from bertjax.inference.explanations.occlusion import occlude
from bertjax.inference.explanations.placed_text import PlacedText, place
from bertjax.inference.loaded_model import LoadedModel
from bertjax.prediction.devices import Devices, all_devices
from bertjax.settings import require_known
from bertjax.tasks import TASKS, Params, find_postprocess, find_readout
from bertjax.tasks.postprocess import Prediction

_DEFAULTS = ExplainOptions()


def can_explain(task: str) -> bool:
    """Whether a model of a task gives each text, or pair of texts, a score a label, or numbers: these are explained."""
    entry = TASKS[task]
    answers = {"probabilities", "values"} & (entry.postprocess.columns.keys() if entry.postprocess else set())
    return bool(answers) and entry.scores_of == "examples"


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
        if not can_explain(task):
            raise ConfigError(
                f"a model of task {task!r} has no score of a whole text to explain; those of "
                f"{', '.join(filter(can_explain, TASKS))} have"
            )
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
          ConfigError: see `check`; a label that the model does not have.
        """
        self.check(options)
        if not rows.texts:
            return []
        outputs = [_output(answer, options.label) for answer in answers]
        placed = self._placed(rows)
        questions = [
            Question(text.token_ids, text.token_type_ids, 0, index)
            for text, (_, index) in zip(placed, outputs, strict=True)
        ]
        if options.method == "integrated_gradients":
            return self._by_gradients(placed, questions, outputs, answers)
        if options.method == "rollout":
            flows = self._network.attention_flow(questions)
            sums = [text.word_sums(flow) for text, flow in zip(placed, flows, strict=True)]
            return [
                Explanation("rollout", None, _weighted(text, weights), text.texts, answer, cut_words=text.cut_words)
                for text, weights, answer in zip(placed, sums, answers, strict=True)
            ]
        explanations = []
        for text, question, (label, _), answer in zip(placed, questions, outputs, answers, strict=True):
            scores = scores_of_hidden(self._network, text, question, self._hiding)
            if options.method == "occlusion":
                score, of_seen = occlude(scores, len(text.seen_words))
            else:
                score, of_seen = fit_lime(scores, len(text.seen_words), options.samples, options.seed)
            weights = np.zeros(len(text.words))
            weights[text.seen_words] = of_seen
            words = _weighted(text, weights)
            explanations.append(
                Explanation(options.method, label, words, text.texts, answer, score, cut_words=text.cut_words)
            )
        return explanations

    def _by_gradients(
        self,
        placed: Sequence[PlacedText],
        questions: Sequence[Question],
        outputs: Sequence[tuple[str, int]],
        answers: Sequence[Prediction],
    ) -> list[Explanation]:
        baselines = [baseline_of(text, self._hiding) for text in placed]
        integrals = integrate(self._network, questions, baselines)
        return [
            Explanation(
                method="integrated_gradients",
                label=label,
                words=_weighted(text, text.word_sums(integral.of_tokens)),
                texts=text.texts,
                answer=answer,
                score=integral.score,
                baseline_score=integral.baseline_score,
                gap=integral.gap,
                steps=integral.points,
                cut_words=text.cut_words,
            )
            for text, integral, (label, _), answer in zip(placed, integrals, outputs, answers, strict=True)
        ]

    @cached_property
    def _network(self) -> ExplainedNetwork:
        readout = find_readout(self._loaded.model.task)
        return ExplainedNetwork(self._devices, self._params, self._loaded.model, readout)

    @property
    def _hiding(self) -> int:
        """The token that hides a word piece: [MASK], or [PAD] where a vocabulary has none."""
        tokenizer = self._loaded.tokenizer
        return tokenizer.pad_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id

    def _placed(self, rows: Rows) -> list[PlacedText]:
        with self._tokenizing:
            encodings = tokenize_in_place(self._loaded.tokenizer, rows.texts, rows.pairs, self._loaded.max_length)
        return [
            place([part for part in texts if isinstance(part, str)], whole, cut)
            for texts, (whole, cut) in zip(rows.text_pairs(), encodings, strict=True)
        ]


def _output(answer: Prediction, label: str | None) -> tuple[str, int]:
    """The label, or name of a number, that is explained, and its place among the network's outputs.

    Raises:
      ConfigError: the model does not have it.
    """
    numbers: Mapping[str, float] = answer.get("probabilities") or answer["values"]
    names = list(numbers)
    if label is None:
        label = max(names, key=numbers.__getitem__) if "probabilities" in answer else names[0]
    require_known("label", label, numbers)
    return label, names.index(label)


def _weighted(text: PlacedText, weights: np.ndarray) -> tuple[WordWeight, ...]:
    return tuple(
        WordWeight(word.word, weight, word.start, word.part == 1)
        for word, weight in zip(text.words, weights.tolist(), strict=True)
    )
