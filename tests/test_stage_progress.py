"""Progress of long stages: a bar on a terminal, lines in a log, or nothing; seen on a pty and on a pipe."""

import logging
import os
import pty
import re
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest

from bertjax import catalog
from bertjax.data.batching.batch_plan import plan_training
from bertjax.data.encode import tokenize as module
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.encode.tokenize import in_windows, tokenize
from bertjax.stage_progress import StageLines
from tests.support.processes import user_environment
from tests.support.progress import KeptStages

COUNTED = """
import logging, time
from bertjax.stage_progress import stages_for_stderr
logging.basicConfig(format="%(message)s", level=logging.INFO)
progress = stages_for_stderr()
with progress.stage("tokenizing", "texts", 200, done=50) as advance:
    for _ in range(3):
        time.sleep(0.15)
        advance(50)
"""


def on_terminal(*command: str, **variables: str) -> str:
    """What a command shows on a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdout=theirs, stderr=theirs, env=user_environment(TERM="xterm", COLUMNS="120", **variables)
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 2**16):
                shown += part
        except OSError:  # Linux says so that the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0, shown.decode()
    return shown.decode()


def test_a_terminal_shows_a_bar_with_rate_and_time_left():
    shown = on_terminal(sys.executable, "-c", COUNTED)
    assert re.search(r"tokenizing .*200/200.* texts, .*\d+ texts/s, ETA .*0:00:0", shown)
    assert "━" in shown


def test_a_pipe_gets_no_bar_and_no_line_for_a_stage_of_a_moment():
    done = subprocess.run([sys.executable, "-c", COUNTED], env=user_environment(), capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize(
    ("title", "unit", "total", "line"),
    [
        ("", "rows", 200, r"100 of 200 rows \(50%\), \d+ rows/s, \d+ s left"),
        ("tokenizing", "texts", None, r"tokenizing: 100 texts, \d+ texts/s"),
    ],
    ids=["a known end", "an unknown end"],
)
def test_a_log_gets_lines_at_intervals(title, unit, total, line, caplog):
    with caplog.at_level(logging.INFO), StageLines(seconds_between=0).stage(title, unit, total, done=50) as advance:
        advance(50)
    assert re.fullmatch(line, caplog.messages[0])


def test_lines_keep_their_distance(caplog):
    with caplog.at_level(logging.INFO), StageLines(seconds_between=60).stage("a", "rows", 10) as advance:
        for _ in range(10):
            advance(1)
    assert not caplog.messages


TEXTS = ["what a film", "the book was dull , very dull and it was bad", "good", "", "so what ?"]


@pytest.mark.parametrize("pairs", [None, TEXTS[::-1]], ids=["texts", "pairs"])
def test_texts_are_tokenized_part_by_part_to_the_same_tokens(tiny_model, monkeypatch, pairs):
    """The parts are there to show progress between them; the truth is the tokenizer's own answer to all texts."""
    tokenizer, labels = load_tokenizer(tiny_model), np.zeros(len(TEXTS), np.int32)
    monkeypatch.setattr(module, "_TEXTS_AT_ONCE", 2)
    progress = KeptStages()
    ours = tokenize(tokenizer, TEXTS, pairs, labels, 8, progress)
    right = tokenizer(TEXTS, pairs, truncation="longest_first", max_length=8, return_token_type_ids=True)
    tokenizer.backend_tokenizer.no_truncation()
    assert ours.token_ids.tolist() == list(chain.from_iterable(right["input_ids"]))
    assert ours.token_type_ids.tolist() == list(chain.from_iterable(right["token_type_ids"]))
    assert progress.stages == [("tokenizing", "texts", 5, [2, 2, 1])]


def test_windows_are_made_part_by_part_to_the_same_windows(tiny_model, monkeypatch):
    tokenizer = load_tokenizer(tiny_model)
    whole = in_windows(tokenizer, TEXTS, None, 6, 1)
    monkeypatch.setattr(module, "_TEXTS_AT_ONCE", 2)
    progress = KeptStages()
    parts = in_windows(tokenizer, TEXTS, None, 6, 1, progress)
    assert parts.text_of.tolist() == whole.text_of.tolist()
    assert parts.tokens.token_ids.tolist() == whole.tokens.token_ids.tolist()
    assert [part.offsets for part in parts.parts] == [part.offsets for part in whole.parts]
    assert progress.stages == [("tokenizing", "texts", 5, [2, 2, 1])]


def test_a_plan_shows_each_batch_that_it_packs():
    progress, lengths = KeptStages(), np.full(20, 7, np.int32)
    shown = plan_training(lengths, 8, 2, 0, 16, 1, packed=True, progress=progress)
    assert shown == plan_training(lengths, 8, 2, 0, 16, 1, packed=True)
    assert progress.stages[0] == ("planning batches", "batches", 6, [1] * 6)


def test_a_download_shows_its_size(tmp_path, monkeypatch):
    """Of a pip that writes its temporary files first, as the real one does."""
    pip = tmp_path / "python"
    pip.write_text("#!/bin/sh\nhead -c 3000000 /dev/zero > $TMPDIR/part; sleep 1; echo not there >&2; exit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(pip))
    progress = KeptStages()
    source = catalog.Source("toy", "1.0", "toy", megabytes=4)
    with pytest.raises(catalog.AssetError, match="not there"):
        catalog._pip_download(source, tmp_path, progress)
    ((title, unit, total, counts),) = progress.stages
    assert (title, unit, total, sum(counts)) == ("fetching toy==1.0", "MB", 4, 3)
