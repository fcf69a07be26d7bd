"""Checks of single options: each raises ConfigError, a sentence that begins with the option's name."""

import numbers
import operator
from typing import Any, Union

import numpy as np

from stoker.pipeline.errors import ConfigError

AUTO = "auto"            # as the number of local workers, or of reads ahead of time: Stoker chooses it
MAX_READ_AHEAD = 64      # reads that a worker process has under way at once ...
MAX_WAITING_MB = 64      # ... and what it may have read ahead, in 2**20 bytes


def check(is_valid: bool, name: str, rule: str, value: object) -> None:
    """Raises ConfigError, "NAME RULE, not VALUE", unless ``is_valid``."""
    if not is_valid:
        # repr raises ValueError for an int with thousands of digits
        shown = "a number so large" if isinstance(value, int) and value.bit_length() > 256 else repr(value)
        raise ConfigError("%s %s, not %s" % (name, rule, shown))


def check_whole(name: str, value: object, least: int, most: int) -> int:
    """``value`` as an int; it may be one of numpy's. Raises ConfigError unless it is in ``least``..``most``."""
    try:
        number = operator.index(value)     # type: ignore[arg-type]  # anything else is a TypeError
    except TypeError:
        number = least - 1
    check(not isinstance(value, bool) and least <= number <= most, name,
          "must be a whole number from %d to %d" % (least, most), value)
    return number


def is_number(value: object) -> bool:
    """Whether ``value`` is an int or a float, or one of numpy's. True and False are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_number(name: str, value: Any, is_valid: bool, rule: str) -> float:
    """``value`` as a float; it may be one of numpy's. Raises ConfigError unless it is a number and ``is_valid``."""
    check(is_valid, name, rule, value)
    try:
        return float(value)
    except OverflowError:
        raise ConfigError("%s %s, and less than 1e308" % (name, rule)) from None


def check_flag(name: str, value: object) -> bool:
    """``value`` as a bool; it may be numpy's. Raises ConfigError if it is anything else."""
    check(isinstance(value, (bool, np.bool_)), name, "must be True or False", value)
    return bool(value)


def check_read_ahead(name: str, value: Any) -> Union[int, str]:
    """``value`` as a number of reads, or AUTO; it may be a text, as on a command line. Raises ConfigError."""
    if isinstance(value, str) and value == AUTO:
        return AUTO
    try:
        return check_whole(name, int(value) if isinstance(value, str) and value.isdigit() else value, 0, MAX_READ_AHEAD)
    except ConfigError as error:
        raise ConfigError("%s; or 'auto'" % error) from None
