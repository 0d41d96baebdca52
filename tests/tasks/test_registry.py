"""A task is one entry of the registry: a new one from outside goes through every job, and every entry is complete."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.baselines.runners.frameworks import check_head
from bertjax.cli.main import main
from bertjax.data.encode.tokenize import tokenize
from bertjax.data.rows.cells import read_number, read_texts
from bertjax.data.table import Table
from bertjax.data.task_formats import TaskFormat
from bertjax.errors import ConfigError
from bertjax.evaluation.evaluate_table import evaluate
from bertjax.inference.predictor import Predictor
from bertjax.members import MEMBERS, suffix_of
from bertjax.metrics.regression_report import regression_report
from bertjax.model import heads
from bertjax.model.layers import linear
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.tasks import TASKS, Metric, Task, find_format, find_task, register_task
from bertjax.tasks.postprocess import Postprocess, each_example
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.finetune_config import FineTuneConfig

NAME = "word_count"


def count_head(config, batch, options):
    output = heads.encoder(config, batch, options)
    return output._replace(logits=linear(config.config, 1, "classifier")(output.pooled_output))


def absolute_error(output, batch):
    return jnp.abs(output.logits[..., 0] - batch.labels)


def encode_counts(rows, source, encoding):
    labels = np.array(rows.labels, np.float32)
    return tokenize(encoding.tokenizer, rows.texts, rows.pairs, labels, encoding.max_length)


WORD_COUNT = Task(
    head=count_head,
    loss=absolute_error,
    metric=Metric("mae", greater_is_better=False),
    architecture="BertForSequenceClassification",
    pipeline_tag="text-classification",
    head_modules=("classifier",),
    format=TaskFormat(
        task=NAME,
        text_columns=lambda table: table.text,
        read_texts=read_texts,
        read_label=lambda cells, table, texts: read_number(cells, table.label),
        encode=encode_counts,
        placeholder=lambda text, names: 0.0,
        usual={"label": (("words",),)},
    ),
    evaluator=lambda scores, examples, names: regression_report(examples.labels[:, None], scores, ("words",)),
    postprocess=Postprocess(
        {"words": "number"}, each_example(lambda scores, names, options: {"words": round(float(scores[0]))})
    ),
)


@pytest.fixture(autouse=True)
def word_count():
    register_task(NAME, WORD_COUNT)
    yield
    del TASKS[NAME]


def test_a_new_task_is_trained_evaluated_predicted_and_exported(tiny_model, tmp_path):
    texts = [
        f"{opening} {subject}" for opening in ("the", "what a", "it was a") for subject in ("film", "dull plot", "song")
    ]
    for side, rows in (("train", texts), ("test", [f"so {text}" for text in texts])):
        lines = [f"{text},{len(text.split())}" for text in rows]
        (tmp_path / f"{side}.csv").write_text("\n".join(["text,words", *lines]))
    test = str(tmp_path / "test.csv")
    table = Table(str(tmp_path / "train.csv"), test=test)
    config = FineTuneConfig(model=str(tiny_model), task=NAME, data=table, epochs=1, batch_size=4, max_length=16)
    result = finetune(config, tmp_path / "run", tracker=MemoryTracker())
    assert result.metrics["test/mae"] > 0

    evaluation = evaluate(str(result.model_dir), test)
    assert evaluation.report.flat("test").items() <= result.metrics.items()
    answers = Predictor.load(result.model_dir)([{"text": f"so {text}"} for text in texts])
    assert [prediction["words"] for prediction in evaluation.predictions()] == [answer["words"] for answer in answers]

    model, params = from_pretrained(result.model_dir)
    again, loaded = from_pretrained(save_pretrained(tmp_path / "exported", model, params))
    assert (model.task, again.task) == (NAME, NAME)
    assert jax.tree.all(jax.tree.map(np.array_equal, params, loaded))
    with pytest.raises(ConfigError, match="task 'word_count' has no PyTorch counterpart"):
        check_head(model)


def test_a_name_is_registered_once_and_is_that_of_the_format():
    with pytest.raises(ConfigError, match="task 'word_count' is there already"):
        register_task(NAME, WORD_COUNT)
    with pytest.raises(ConfigError, match="task 'other' has the format of task 'word_count'"):
        register_task("other", WORD_COUNT)


def test_an_unknown_task_is_one_line_with_the_nearest_name(tmp_path, capsys):
    assert main(["finetune", "--task", "clasification", "--train", "no.csv", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == "bertjax: task 'clasification' is unknown; did you mean 'classification'?\n"
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="task 'encoder' cannot be fine-tuned or judged; bertjax has classification,"):
        find_format("encoder")


@pytest.mark.parametrize("name", TASKS)
def test_every_entry_is_complete(name):
    """Members know its head, what is trained has a metric, what reads tables has all that follows, and labels fit the
    parts that read them."""
    task = find_task(name)
    head = suffix_of(task.architecture)
    assert [member.has(task.architecture) for member in MEMBERS.values()] == [
        head in member.heads for member in MEMBERS.values()
    ]
    assert (task.loss is None) == (task.metric is None)
    assert (task.format is None) == (task.evaluator is None)
    if task.format is None:
        assert task.postprocess is None or task.postprocess.readout is not None
    else:
        assert task.format.task == name
        assert task.loss is not None
        assert bool(task.format.vocabulary(("a", "b"), Table())) == task.names
    if task.torch is not None:
        assert len(task.torch.label_arguments) in (0, len(task.torch.outputs))
