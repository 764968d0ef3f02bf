"""The examples and commands of the pages are right, and the pages belong to this version."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import click
import pytest

import fastrnn
from fastrnn.cli.main import main

ROOT = Path(__file__).parents[1]


#: Pages for users and contributors.
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted(
    ROOT.glob("docs/*.md")
)


@pytest.mark.parametrize(("name", "least"), [("README.md", 12), ("docs/guide.md", 20)])
def test_the_examples_print_what_the_page_says(name: str, least: int):
    result = doctest.testfile(str(ROOT / name), module_relative=False)
    assert result.attempted >= least
    assert result.failed == 0


@pytest.mark.parametrize("name", ["README.md", "docs/guide.md"])
def test_the_commands_of_the_page_exist(name: str):
    text = (ROOT / name).read_text()
    block = text.split("## The command line")[1].split("```")[1]
    named = set(re.findall(r"^fastrnn (\w+)", block, flags=re.MULTILINE))
    assert named == {"train", "sample", "eval", "report", "tokens", "info"} <= set(main.commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_targets_that_a_page_names_are_in_the_makefile(page: Path):
    code = re.findall(r"```\n(.*?)```|`([^`]+)`", page.read_text(), flags=re.DOTALL)
    targets = set(re.findall(r"\bmake ([a-z][a-zA-Z-]*)", "\n".join(map("\n".join, code))))
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert f"\n{target}:" in makefile or target.startswith("claim-")  # tests/benchmarks checks the claims


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path):
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path):
    places = (ROOT, ROOT / "fastrnn")
    for name in re.findall(r"`((?:\w+/)+\w+\.\w+)", page.read_text()):
        assert any((place / name).exists() for place in places), name


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CITATION.cff", "pyproject.toml"])
def test_the_version_is_the_same_everywhere(name: str):
    assert fastrnn.__version__ in (ROOT / name).read_text()


@pytest.mark.parametrize("command", main.commands.values(), ids=lambda command: command.name)
def test_every_option_of_the_command_line_has_a_help_text(command: click.Command):
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))
