"""The progress of work that counts items: without a terminal, on one, and in a notebook."""

from __future__ import annotations

import io
import logging
import sys
from types import SimpleNamespace

import pytest

from fastrnn.core import progress_bar
from fastrnn.core.progress_bar import counted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_the_log_counts(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(progress_bar, "PROGRESS_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, "fastrnn"):
        assert list(counted("abc", 3, "text")) == ["a", "b", "c"]
        assert list(counted(iter("ab"), None, "line")) == ["a", "b"]
    assert caplog.messages == ["1 of 3 texts", "2 of 3 texts", "3 of 3 texts", "1 lines", "2 lines"]


@pytest.mark.parametrize(("total", "shown"), [(3, "3/3"), (None, "3text")])
def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch, total: int | None, shown: str):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(counted(iter("abc"), total, "text")) == ["a", "b", "c"]
    assert shown in terminal.getvalue()


def test_a_bar_is_closed_when_the_items_are_dropped(monkeypatch: pytest.MonkeyPatch):
    events: list[str] = []
    bar = SimpleNamespace(update=lambda: events.append("update"), close=lambda: events.append("close"))
    monkeypatch.setattr(progress_bar, "progress_bar", lambda **_: bar)
    items = counted(iter("abc"), None, "text")
    assert events == []
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert events == ["update", "close"]

    def broken():
        yield "a"
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(counted(broken(), None, "text"))
    assert events == ["update", "close"] * 2
