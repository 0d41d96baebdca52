"""`smoke_model`: a tiny random model with the tokenizer of a given one, for `--smoke`."""

from dataclasses import replace
from pathlib import Path

from bertjax.config import BertConfig, read_config_json

_FOLDER = Path("runs") / "smoke-model"
_SEED = 0


def smoke_model(name: str) -> Path:
    """The folder of a network with one small layer of random numbers, written anew; it reads what the named one reads.

    Args:
      name: of the model whose tokenizer and vocabulary it has.

    Raises:
      UserError: there is no such model.
    """
    import jax

    from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
    from bertjax.model_folder.save_pretrained import save_pretrained
    from bertjax.pretrained.files import resolve_model
    from bertjax.tasks import make_model

    folder = resolve_model(name)
    architecture = BertConfig.from_hugging_face(read_config_json(folder))
    rotary = architecture.rotary and replace(architecture.rotary, local=architecture.rotary.local[:1])
    small = replace(architecture, hidden_size=32, num_layers=1, num_heads=2, intermediate_size=32, rotary=rotary)
    model = make_model(small, "encoder")
    return save_pretrained(_FOLDER, model, model.init(jax.random.key(_SEED)), load_tokenizer(folder))
