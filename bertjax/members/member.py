"""`Member`: all that differs between kinds of encoders (BERT, RoBERTa, ModernBERT, ...), as data.

No code outside a member's own file branches on `model_type`: the network reads plain settings (`BertConfig`,
`HeadScheme`), the loader a `WeightTable`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bertjax.errors import ConfigError
from bertjax.members.weight_table import Rule, WeightTable


class ConfigRule(NamedTuple):
    """Between the values of a `config.json` and the fields of `BertConfig`.

    Attributes:
      keys: field -> its key, in the order in which they are written.
      settings: fields that every network of this kind has, whatever its `config.json` says.
      defaults: transformers' values of missing keys, by field, where they are not those of BERT-base.
      fixed: key -> the one value of it that the network computes.
      derived: values -> fields that no single key has.
      written: fields -> further values, the inverse of `derived`.
      kept: keys of special tokens, which are written as they were read: the network needs none of them.
    """

    keys: Mapping[str, str]
    settings: Mapping[str, Any] = {}
    defaults: Mapping[str, Any] = {}
    fixed: Mapping[str, Any] = {}
    derived: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda values: {}
    written: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda fields: {}
    kept: tuple[str, ...] = ()


class HeadScheme(NamedTuple):
    """How a head reads the encoder, as plain settings; the defaults are those of BERT's classifier.

    Attributes:
      pooler: whether there is a dense layer over an example's vector, for pooling "pooler".
      activation: behind that layer.
      normalizes: whether a layer norm follows.
      over_tokens: whether the same layer is over each token of a head that reads tokens.
      drops_before: whether the vector is dropped out before that layer too.
      dropout: the field of `BertConfig` with the dropout rate of the last linear layer's input; None for no dropout.
      word_activation: in the transform of a masked language model; None stands for the network's `hidden_act`.
    """

    pooler: bool = True
    activation: str = "tanh"
    normalizes: bool = False
    over_tokens: bool = False
    drops_before: bool = False
    dropout: str | None = "classifier_dropout_rate"
    word_activation: str | None = None


class Head(NamedTuple):
    """A head of a member.

    Attributes:
      scheme: how it reads the encoder.
      rules: its weights, in the place of the rows that the member's table has for the same modules.
      suffix: what follows in the name of transformers' class, where that is the name of another head of BERT.
    """

    scheme: HeadScheme = HeadScheme()
    rules: tuple[Rule, ...] = ()
    suffix: str | None = None


class Member(NamedTuple):
    """A kind of encoder that transformers has.

    Attributes:
      model_type: in `config.json`.
      title: in words.
      classes: what the names of transformers' classes start with.
      config: the rule of its `config.json`.
      weights: the table of its weights.
      heads: what follows in the name of BERT's class, `Model` or `For...`, real or as BERT would have it -> the head.
      tokenizer: transformers' class of its tokenizer, where a folder names none; None leaves that to transformers.
    """

    model_type: str
    title: str
    classes: str
    config: ConfigRule
    weights: WeightTable
    heads: Mapping[str, Head]
    tokenizer: str | None = None

    def architecture(self, of_bert: str) -> str:
        """transformers' class for a task, of the name of BERT's class for it.

        >>> from bertjax.members import MEMBERS
        >>> MEMBERS["roberta"].architecture("BertForMaskedLM")
        'RobertaForMaskedLM'
        """
        suffix = suffix_of(of_bert)
        return self.classes + (self.heads.get(suffix, Head()).suffix or suffix)

    def of_bert(self, architecture: str) -> str:
        """BERT's class for a task, of the name of transformers' class for it: the inverse of `architecture`.

        >>> from bertjax.members import MEMBERS
        >>> MEMBERS["electra"].of_bert("ElectraForPreTraining")
        'BertForReplacedTokens'
        """
        suffix = architecture.removeprefix(self.classes)
        renamed = {head.suffix: name for name, head in self.heads.items() if head.suffix}
        return "Bert" + renamed.get(suffix, suffix)

    def has(self, of_bert: str) -> bool:
        """Whether there is such a class of this member; a class that is a user's own, every member has."""
        suffix = suffix_of(of_bert)
        return suffix in self.heads or suffix not in _SUFFIXES

    def head(self, of_bert: str) -> Head:
        """The head of a class; that of the bare encoder for a class that is a user's own, which not even BERT has.

        Raises:
          ConfigError: transformers has no such class of this member.
        """
        suffix = suffix_of(of_bert)
        if not self.has(of_bert):
            known = (self.architecture(name) + (f" ({name})" if self.heads[name].suffix else "") for name in self.heads)
            raise ConfigError(f"transformers has no {self.title} with the head {suffix}; it has {', '.join(known)}")
        return self.heads.get(suffix, self.heads["Model"])

    def scheme_of(self, of_bert: str) -> HeadScheme:
        """How a head reads the encoder; arguments and errors as of `head`."""
        return self.head(of_bert).scheme

    def weights_of(self, of_bert: str) -> WeightTable:
        """The table of the weights of a network under a head; arguments and errors as of `head`."""
        rules = self.head(of_bert).rules
        return self.weights.with_rules(rules) if rules else self.weights


# Of all heads that bertjax's own tasks have.
_SUFFIXES = (
    "Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice",
    "ForNextSentencePrediction", "ForMaskedLM", "ForPreTraining", "ForReplacedTokens",
)  # fmt: skip


def suffix_of(of_bert: str) -> str:
    """What the name of BERT's class says of the head: `ForMaskedLM` of `BertForMaskedLM`."""
    return of_bert.removeprefix("Bert")


def check_rope_type(where: str, kind: Any) -> None:
    """Checks that a kind of rotary positions is the plain one.

    Raises:
      ConfigError: positions are scaled in a way that the network does not compute.
    """
    if kind not in (None, "default"):
        raise ConfigError(f"config.json: {where} has rope_type {kind!r}, which is not supported; only 'default' is")
