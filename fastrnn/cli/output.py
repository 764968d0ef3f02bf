"""Descriptions as lines for people and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from fastrnn.core.terminal import escaped


def as_lines(description: dict[str, Any], indent: str = "") -> str:
    """Return a description as aligned lines. They are escaped, because a file may be from anyone."""
    width = max((len(escaped(name)) for name in description), default=0)
    lines = []
    for name, value in description.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{escaped(name)}", as_lines(dict(value), indent + "  ")]
        else:
            lines.append(f"{indent}{escaped(name):{width}}  {escaped(str(value))}")
    return "\n".join(lines)


def as_json(description: Any, indent: int | None = None) -> str:
    """Return a value as JSON in printable ASCII; a number that is not finite becomes null."""
    said = json.dumps(_finite(description), indent=indent, allow_nan=False)
    return said.replace("\x7f", "\\u007f")


def _finite(value: Any) -> Any:
    """Return a value in which each number that is not finite is None."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
