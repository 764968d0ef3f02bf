"""Durations such as "90s", "5m" or "1.5h"."""

from __future__ import annotations

import re
from typing import Any

from fastrnn.core import checks
from fastrnn.core.checks import shown

#: The seconds of each unit.
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(name: str, value: Any) -> float:
    """The seconds of a number or of a text with a unit: s, m, h or d.

    Raises
    ------
    ValueError, TypeError
        It is neither, or not above zero.
    """
    if not isinstance(value, str):
        return checks.real_number(name, value)
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)\s*", value)
    if found is None:
        wanted = "give seconds, or a number with s, m, h or d, such as '5m'"
        raise ValueError(f"{name}={shown(value)} is not a duration: {wanted}")
    return checks.real_number(name, float(found[1]) * UNITS[found[2] or "s"])


def pace(name: str, value: Any) -> float:
    """A number of updates as an int, or a duration such as ``"5m"`` as a float of seconds.

    A str without a unit is a number of updates too.

    Raises
    ------
    ValueError, TypeError
        It is neither, or not above zero.
    """
    if not isinstance(value, str):
        return checks.whole_number(name, value)
    return checks.whole_number(name, int(value)) if value.strip().isdecimal() else seconds(name, value)
