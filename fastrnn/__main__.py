"""``python -m fastrnn`` is the command line."""

from fastrnn.cli.main import main

main(prog_name="fastrnn")
