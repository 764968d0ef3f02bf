"""Each claim of the README has one check, which is named beside the claim."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from benchmarks.claims import CLAIMS
from benchmarks.claims import __main__ as program

ROOT = Path(program.__file__).parents[2]


def test_every_check_is_a_claim_of_the_table():
    checks = {path.stem for path in Path(program.__file__).parent.glob("*.py")}
    assert {claim.module.rpartition(".")[2] for claim in CLAIMS} == {
        c for c in checks if not c.startswith("_")
    }
    assert all(importlib.util.find_spec(claim.module) for claim in CLAIMS)


def test_the_documents_name_the_commands_of_all_claims_and_no_others():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = set(re.findall(r"make (claim-[a-z-]+[a-z])", "".join(page.read_text() for page in pages)))
    assert named == {f"claim-{claim.name}" for claim in CLAIMS}


def test_the_page_of_performance_has_the_table():
    page = (ROOT / "docs" / "performance.md").read_text()
    assert all(f"| `{claim.command}` | {claim.states} | {claim.minutes} |\n" in page for claim in CLAIMS)


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]):
    assert program.main(["--list"])
    printed = capsys.readouterr().out
    assert all(claim.command in printed and claim.states in printed for claim in CLAIMS)


def test_a_claim_that_needs_texts_does_not_hold_without_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("FASTRNN_DATA", raising=False)
    assert not program.main(["quality"])
    assert "FASTRNN_DATA does not name a folder of texts" in capsys.readouterr().out


def test_the_options_after_a_name_are_those_of_its_check(capfd: pytest.CaptureFixture[str]):
    assert program.main(["long-memory", "--help"])
    assert "--seeds" in capfd.readouterr().out
