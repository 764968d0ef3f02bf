"""The available memory, on this system and on others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastrnn.core import memory


def test_there_is_some_memory_and_not_endless():
    assert 1 << 20 < memory.available() < 1 << 60


def test_what_fits_passes_and_what_does_not_is_refused_with_both_sizes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "available", lambda: 5_000_000)
    memory.require(5_000_000, "this")
    with pytest.raises(MemoryError, match="this needs 5.2 GB, and 5.0 MB are available"):
        memory.require(5_200_000_000, "this")


def test_a_system_that_does_not_say_refuses_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "available", lambda: None)
    memory.require(1 << 100, "this")


def test_a_container_s_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(memory, "_CGROUP_FILES", [("/none", "/none"), (str(limit), str(used))])
    used.write_text("3000\n")
    limit.write_text("max\n")
    assert memory._available_to_container() is None
    limit.write_text("10000\n")
    assert memory._available_to_container() == 7000
    assert memory.available() == 7000


def test_without_proc_all_of_the_machine_s_memory_counts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "Path", lambda _: Path("/none"))
    assert memory._available_to_machine() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.delattr(os, "sysconf")
    assert memory._available_to_machine() is None


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (10**30, "1000000000000000.0 PB")],
)
def test_sizes_for_people(size: int, text: str):
    assert memory.readable(size) == text
