"""The progress of a training in a notebook, and without a terminal; tests/cli/test_cli.py has a terminal."""

from __future__ import annotations

import logging
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import fastrnn
from fastrnn.training import progress

TEXT = "the cat sat on the mat, and the dog saw the cat. " * 40


#: What is said after the last of 50 updates.
LAST = r"update 50: \d\.\d{3} bits/character, validation \d\.\d{3}, [\d,]+ k characters/s"


def quick(**options: Any) -> fastrnn.Model:
    return fastrnn.train(TEXT, **{"steps": 50, "rng": 0, "hidden_size": 5, "backend": "numpy"} | options)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel of Jupyter looks like from inside, without ipywidgets."""
    shell = SimpleNamespace(kernel=object(), config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, version_info=(9,)))
    for name in [name for name in sys.modules if name in {"tqdm.auto", "tqdm.autonotebook", "tqdm.notebook"}]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)


def test_a_notebook_without_ipywidgets_has_a_bar_of_characters(notebook, capfd: pytest.CaptureFixture[str]):
    model = quick()
    shown = capfd.readouterr().err
    assert re.search(LAST, shown)
    assert "100%" in shown
    assert model.to_bytes() == quick(progress=False).to_bytes()
    assert capfd.readouterr().err == ""


def test_a_bar_is_full_when_training_ends_early(notebook, monkeypatch: pytest.MonkeyPatch):
    bars, real = [], progress.progress_bar
    monkeypatch.setattr(progress, "progress_bar", lambda: bars.append(real()) or bars[0])

    class Stop(fastrnn.Callback):
        every = 5

        def after_updates(self, training, updates):
            return training.updates == 5

    quick(callbacks=[Stop()])
    assert bars[0].n == bars[0].total


def test_a_bar_that_ctrl_c_ended_is_not_full(notebook, monkeypatch: pytest.MonkeyPatch):
    bars, real = [], progress.progress_bar
    monkeypatch.setattr(progress, "progress_bar", lambda: bars.append(real()) or bars[0])

    class Interrupt(fastrnn.Callback):
        every = 5

        def after_updates(self, training, updates):
            if training.updates == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(callbacks=[Interrupt()])
    assert bars[0].n < bars[0].total


def test_the_log_has_the_progress_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, "fastrnn"):
        quick()
    assert re.search(f"100 % done, about 0 s left: {LAST}", caplog.text)
