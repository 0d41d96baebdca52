"""The model card of an exported folder: a description of the model, and how transformers and bertjax load it."""

from collections.abc import Mapping

from bertjax.members import find_member
from bertjax.report_pages.literal_text import markdown
from bertjax.tasks import Model, find_task

_POOLINGS = {
    "mean": "The vector of a text is the mean of its tokens' hidden states",
    "cls": "The vector of a text is the hidden state of its first token",
}


def auto_class(model: Model) -> str:
    """transformers' class that loads the folder whatever its architecture."""
    member = find_member(model.config.model_type)
    theirs = member.architecture(find_task(model.task).architecture)
    return "AutoModel" + theirs.removeprefix(member.classes).removesuffix("Model")


def model_card(model: Model, metrics: Mapping[str, float] | None = None, temperature: float = 1.0) -> str:
    """A `README.md` with the front matter that the hub reads.

    Args:
      model: the one in the folder.
      metrics: on its test rows, such as `test/accuracy`.
      temperature: by which bertjax divides its logits where they become probabilities.
    """
    config, task, auto = model.config, find_task(model.task), auto_class(model)
    member = find_member(config.model_type)
    size = f"{config.num_layers} layers, hidden size {config.hidden_size}, {config.num_heads} attention heads"
    lines = [
        "---",
        "library_name: transformers",
        *([f"pipeline_tag: {task.pipeline_tag}"] if task.pipeline_tag else []),
        "tags:",
        f"- {member.model_type}",
        "- bertjax",
        "---",
        "",
        f"# {member.architecture(task.architecture)}",
        "",
        f"{member.title} with {size}, for up to {config.max_length} tokens; task `{model.task}`.",
        "Written by bertjax: float32 weights, from which transformers computes the same numbers.",
        "",
        "```python",
        f"from transformers import AutoTokenizer, {auto}",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        f'model = {auto}.from_pretrained("FOLDER")',
        "```",
        "",
        "```python",
        "import bertjax",
        "",
        'model, params = bertjax.from_pretrained("FOLDER")',
        "```",
    ]
    if auto == "AutoModel" and model.pooling in _POOLINGS:
        scaled = ", scaled to length 1" if task.unit_vectors else ""
        has_pooler = member.scheme_of(task.architecture).pooler
        unread = " transformers' `pooler_output` is zero and not to be read." if has_pooler else ""
        lines += ["", f"{_POOLINGS[model.pooling]}{scaled}.{unread}"]
    if temperature != 1:
        lines += [
            "",
            f"bertjax divides the logits by a temperature of {temperature:g} where they become probabilities; it was "
            "fitted on rows beside the training rows. transformers does not divide: its labels are the same, its "
            "probabilities are others.",
        ]
    if model.labels:
        lines += ["", "## Labels", "", *(f"{index}. {markdown(name)}" for index, name in enumerate(model.labels))]
    if metrics:
        rows = [f"| {markdown(name)} | {value:.4g} |" for name, value in metrics.items()]
        lines += ["", "## Scores", "", "| metric | value |", "|---|---|", *rows]
    return "\n".join(lines) + "\n"
