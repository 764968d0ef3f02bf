"""The benchmark of streams runs, and says what it measured."""

from __future__ import annotations

import os
import sys

import pytest
from conftest import require_backend

from benchmarks import streams


def test_it_prints_a_figure_of_each_job(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)
    sizes = ["--symbols", "700", "--streams", "9", "--repeats", "1", "--hidden-size", "8"]
    monkeypatch.setattr(sys, "argv", ["streams", "--backend", require_backend("c"), *sizes])
    streams.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "microseconds of a symbol: rnn, H 8, c"
    assert len(lines) == 1 + 7 + 5
