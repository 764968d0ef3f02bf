"""The version of fastrnn, as in pyproject.toml."""

VERSION = "0.1.0"
