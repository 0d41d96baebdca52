"""`Member`: all that differs between kinds of encoders (BERT, RoBERTa, ModernBERT, ...), as data.

No code outside a member's own file branches on `model_type`: the network reads plain settings (`BertConfig`,
`HeadScheme`), the loader a `WeightTable`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bertjax.errors import ConfigError
from bertjax.members.weight_table import Rule, WeightTable


class ConfigRule(NamedTuple):
    """The mapping between the keys of a `config.json` and the fields of `BertConfig`.

    Attributes:
      keys: field -> key, in the order in which they are written.
      settings: fields that are the same for every network of this kind, whatever its `config.json` says.
      defaults: transformers' defaults of missing keys, by field, where they differ from those of BERT-base.
      fixed: key -> the only value that the network supports.
      derived: values -> fields that correspond to no single key.
      written: fields -> further values, the inverse of `derived`.
      kept: keys of special tokens, which are copied through: the network does not use them.
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
      pooler: whether there is a pooler, a dense layer over an example's vector.
      activation: of the pooler.
      normalizes: whether a layer norm follows the pooler.
      over_tokens: whether heads that read tokens apply the pooler to each of them.
      drops_before: whether there is dropout before the pooler too.
      dropout: the field of `BertConfig` with the dropout rate of the output layer's input; None for no dropout.
      word_activation: in the transform of a masked language model; None for the network's `hidden_act`.
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
      scheme: how the head reads the encoder.
      rules: its weights, which replace the member's rules for the same modules.
      suffix: of the name of transformers' class, if it differs from that of BERT's class for the same head.
    """

    scheme: HeadScheme = HeadScheme()
    rules: tuple[Rule, ...] = ()
    suffix: str | None = None


class Member(NamedTuple):
    """A kind of encoder that transformers has.

    Attributes:
      model_type: in `config.json`.
      title: in words.
      classes: prefix of the names of transformers' classes, such as `Roberta`.
      config: the mapping of its `config.json`.
      weights: the table of its weights.
      heads: suffix of the name of BERT's class, `Model` or `For...`, real or hypothetical -> the head.
      tokenizer: transformers' tokenizer class for folders that name none; None leaves that to transformers.
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
