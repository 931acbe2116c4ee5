"""What constructors of layers check: each error gives the rule, what arrived, and the likely fix."""
import math
import operator
from typing import Any

import numpy as np


def whole_number(who: str, name: str, value: Any, least: int = 1) -> int:
    """`value` as a Python integer of at least `least`."""
    rule = f"{who}: {name} must be an integer of at least {least}"
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{rule}, got the bool {value!r}: are the arguments in the right order?")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{rule}, got {value!r} ({type(value).__name__}): use int(...), or // in place of /") from None
    if number < least:
        raise ValueError(f"{rule}, got {number}")
    return number


def real_number(who: str, name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """`value` as a finite Python float between `least` and `most`."""
    bounds = "" if least == -math.inf and most == math.inf else f" of at least {least:g}" if most == math.inf else (
        f" between {least:g} and {most:g}")
    rule = f"{who}: {name} must be a finite number{bounds}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{rule}, got {value!r} ({type(value).__name__}): pass a plain number")
    if not math.isfinite(value) or not least <= value <= most:
        raise ValueError(f"{rule}, got {value!r}")
    return float(value)


def flag(who: str, name: str, value: Any) -> bool:
    """`value` if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{who}: {name} must be True or False, got {value!r} ({type(value).__name__}): "
                        "are the arguments in the right order?")
    return bool(value)


def divisor(who: str, groups: Any, in_channels: int, out_channels: int) -> int:
    """`groups` if it divides both numbers of channels."""
    groups = whole_number(who, "groups", groups)
    if in_channels % groups or out_channels % groups:
        raise ValueError(f"{who}: groups must divide in_channels and out_channels, got groups {groups}, in_channels "
                         f"{in_channels}, out_channels {out_channels}: choose multiples of {groups}")
    return groups
