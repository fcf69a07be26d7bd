"""JSON from files that a stranger may have written: nothing in it costs time or memory without a limit, and nothing
gives a value that no writer of JSON means."""

import json
import math
import re
from typing import Any, Dict, List, Set, Tuple

from stoker.pipeline.text import quoted

MAX_RECORD_BYTES = 1 << 26      # of a file: a list of a million classes has less
MAX_VALUES = 1 << 21            # in it: one of some bytes takes 200 bytes of memory ...
MAX_LISTS = 1 << 18             # ... and an empty list or object of two bytes, 250
MAX_DEPTH = 50            # of lists and objects in each other
MAX_DIGITS = 40           # of a number: Python takes a time for it that grows with the square of their number
_LONG_NUMBER = re.compile(b"[0-9]{%d}" % (MAX_DIGITS + 1))       # or a text with as many digits


def loads(data: bytes) -> Any:
    """The value of ``data``. Raises ValueError, which says what is wrong with it, in a clause: it is no JSON in UTF-8,
    nested more than MAX_DEPTH deep, has a key twice, NaN, or a number that is infinite or of more than MAX_DIGITS, or
    has more values or lists than MAX_VALUES and MAX_LISTS, by the characters that separate or begin them."""
    if data.count(b",") > MAX_VALUES or data.count(b"[") + data.count(b"{") > MAX_LISTS:
        raise ValueError("it has millions of values")
    hooks: Dict[str, Any] = {"parse_int": _integer} if _LONG_NUMBER.search(data) else {}
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant,
                           parse_float=_float, **hooks)
    except json.JSONDecodeError as error:
        raise ValueError("it is torn or damaged: %s" % error) from error
    except UnicodeDecodeError as error:
        raise ValueError("it is torn or damaged: it is no text in UTF-8") from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    _check_depth(value)
    return value


_TOO_DEEP = "it is nested more than %d deep" % MAX_DEPTH


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: Set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))      # type: ignore[func-returns-value]
        raise ValueError("it has the key %.80s twice" % quoted(twice))
    return made


def _constant(text: str) -> Any:
    raise ValueError("it has the value %s, which is no JSON" % text)


def _float(text: str) -> float:
    value = float(text) if len(text) <= 10 * MAX_DIGITS else math.inf
    if math.isinf(value):
        raise ValueError("it has a number that is too large, %.40s" % text)
    return value


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("it has a number of %d digits, %.40s..." % (len(text), text))
    return int(text)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for each in level if isinstance(each, (dict, list))
                 for item in (each.values() if isinstance(each, dict) else each) if isinstance(item, (dict, list))]
        if not level:
            return
    raise ValueError(_TOO_DEEP)
