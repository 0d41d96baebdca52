"""Tiny checkpoints of every kind of encoder, as transformers saves them, each with a tokenizer of its kind."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from bertjax.members import MEMBERS
from bertjax.tasks import TASKS
from tests.support.models import WORDS

LABELS = ("no", "maybe", "yes")
LINES = [
    f"{opening} {subject} was {verdict}"
    for opening in ("the", "a", "what a", "it was the", "so , the")
    for subject in ("film", "book", "plot", "song")
    for verdict in ("good", "bad", "very good and great .", "not dull ?")
]

_SIZES = {
    "vocab_size": 320, "max_position_embeddings": 56, "num_hidden_layers": 2, "hidden_size": 32,
    "num_attention_heads": 4, "intermediate_size": 48,
}  # fmt: skip
_OWN: dict[str, dict[str, Any]] = {
    # At sigma 0.3 a projection of 12 numbers leaves the embeddings their size. It makes them larger at 20, and layers
    # sharper: torch's own float32 is 1.0e-5 from its float64 in the last hidden states then (ours 0.5e-5, and 1.3e-5
    # from torch), and 0.4e-5 at 12.
    "electra": {"embedding_size": 12},
    "distilbert": {"n_layers": 2, "dim": 32, "n_heads": 4, "hidden_dim": 48},
    # One layer looks at every token, one at those within 4.
    "modernbert": {"local_attention": 8, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2,
                   "eos_token_id": 3},
}  # fmt: skip


def their_config(model_type: str, **changes: Any) -> Any:
    """transformers' configuration of a small network."""
    sizes = {**_SIZES, **_OWN.get(model_type, {})}
    if model_type == "distilbert":  # it would keep the keys of others
        sizes = {key: sizes[key] for key in ("vocab_size", "max_position_embeddings", *_OWN[model_type])}
    return getattr(transformers, f"{MEMBERS[model_type].classes}Config")(**{**sizes, **changes})


def their_model(model_type: str, task: str, sigma: float, labels: Sequence[str] = LABELS, **changes: Any) -> Any:
    """transformers' model of a task with normal weights; at Hugging Face's own scale a wrong GELU would hide.

    At sigma 0.3 ModernBERT's norms are as small as its other weights: with norms near 1 the product of its gate takes
    the residual stream to 29, where torch's own float32 is 2.2e-5 from its float64 in the first layer and 3.2e-5 in the
    logits of masked words; ours is 1.2e-5 from float64 in both. With small norms all are within 2.2e-6.
    """
    row, member = TASKS[task], MEMBERS[model_type]
    named = {"id2label": dict(enumerate(labels)), "problem_type": row.problem_type} if row.names else {}
    is_small = model_type == "modernbert" and sigma > 0.1
    torch.manual_seed(0)
    module = getattr(transformers, member.architecture(row.architecture))(their_config(model_type, **named, **changes))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            is_scale = "norm" in name.lower() and name.endswith("weight") and not is_small
            parameter.normal_(1.0 if is_scale else 0.0, sigma)
    return module


def _byte_pairs() -> Any:
    """Byte-level BPE, as RoBERTa's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=310, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return transformers.RobertaTokenizer(tokenizer_object=tokenizer)


def _pieces(class_name: str) -> Any:
    """A unigram model over words with `▁`, as sentencepiece makes it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        LINES, trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>")
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return getattr(transformers, class_name)(
        tokenizer_object=tokenizer, bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", mask_token="<mask>",
    )  # fmt: skip


def _modern() -> Any:
    """Byte-level BPE with BERT's special tokens, and token types that the network does not read."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=310, special_tokens=WORDS[:5], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def _word_pieces(folder: Path) -> Any:
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS) + "\n")
    return transformers.BertTokenizer(str(vocabulary))


def _word_pieces_of_mpnet(folder: Path) -> Any:
    """Word pieces between RoBERTa's special tokens."""
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["<s>", "<pad>", "</s>", "[UNK]", "<mask>", *WORDS[5:]]) + "\n")
    return transformers.MPNetTokenizer(str(vocabulary))


def save_tokenizer(model_type: str, folder: Path) -> None:
    """Writes the files of a tokenizer of the member's kind."""
    made = {
        "roberta": _byte_pairs,
        "xlm-roberta": lambda: _pieces("PreTrainedTokenizerFast"),
        "camembert": lambda: _pieces("PreTrainedTokenizerFast"),
        "modernbert": _modern,
        "mpnet": lambda: _word_pieces_of_mpnet(folder),
    }.get(model_type, lambda: _word_pieces(folder))()
    made.save_pretrained(folder)


def their_folder(model_type: str, folder: Path, task: str = "masked_lm", sigma: float = 0.1) -> Path:
    """A folder as the hub has it: weights, configuration and tokenizer."""
    their_model(model_type, task, sigma).save_pretrained(folder)
    save_tokenizer(model_type, folder)
    return folder
