"""The README tells the truth, and the documents belong to this version."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import click
import pytest

import fastrnn
from fastrnn.cli.main import main

ROOT = Path(__file__).parents[1]


def test_the_readme_s_examples_print_what_it_says():
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert result.attempted >= 12
    assert result.failed == 0


def test_the_readme_s_commands_exist():
    text = (ROOT / "README.md").read_text()
    block = text.split("## The command line")[1].split("```")[1]
    named = set(re.findall(r"^fastrnn (\w+)", block, flags=re.MULTILINE))
    assert named == {"train", "sample", "eval", "info"} <= set(main.commands)
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake (\w+) ", text + (ROOT / "CONTRIBUTING.md").read_text())):
        assert f"\n{target}:" in makefile


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CITATION.cff", "pyproject.toml"])
def test_the_version_is_the_same_everywhere(name: str):
    assert fastrnn.__version__ in (ROOT / name).read_text()


@pytest.mark.parametrize("command", main.commands.values(), ids=lambda command: command.name)
def test_every_option_of_the_command_line_has_a_help_text(command: click.Command):
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))
