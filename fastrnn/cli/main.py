"""The command line. Data goes to stdout, everything else to stderr; text for a terminal is escaped.

The commands import the modules that only they need when they run, so that ``--help`` is fast.
"""

from __future__ import annotations

import click

import fastrnn
from fastrnn.cli.demo import demo
from fastrnn.cli.evaluate import evaluate
from fastrnn.cli.info import info
from fastrnn.cli.plot import plot
from fastrnn.cli.program import Program
from fastrnn.cli.report import report
from fastrnn.cli.sample import sample
from fastrnn.cli.score import score
from fastrnn.cli.tokens import tokens
from fastrnn.cli.train import train

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Program, context_settings=CONTEXT)
@click.version_option(fastrnn.__version__, prog_name="fastrnn")
def main() -> None:
    """Train, score and sample small recurrent language models on a CPU."""


for command in (train, sample, score, evaluate, tokens, info, plot, report, demo):
    main.add_command(command)
