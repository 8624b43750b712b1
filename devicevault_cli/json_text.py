"""Checks whether text is a JSON list, of any length and depth, without keeping its values."""

from __future__ import annotations

import re
from json import JSONDecoder

_WHITESPACE = " \t\n\r"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# Numbers are kept as text: an integer of 5,000 digits is JSON, yet int() refuses it.
_decode = JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_constant).raw_decode


def list_problem(text: str) -> str | None:
    """Say why `text` is not a JSON list (RFC 8259), or None if it is one."""
    body = text.strip(_WHITESPACE)
    try:
        value, end = _decode(body)
    except RecursionError:
        return None if body.startswith("[") and _is_json(body) else "not a JSON list"
    except ValueError:
        return "not JSON"
    if end != len(body):
        return "not JSON: text follows the value"
    return None if isinstance(value, list) else "JSON, but not a list"


_TOKEN = re.compile(
    r"""[ \t\n\r]*+(?:
        (?P<open>[\[{]) | (?P<close>[\]}]) | (?P<comma>,) | (?P<colon>:)
      | (?P<string>"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+")
      | (?P<scalar>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null)
    )""",
    re.VERBOSE,
)

# What may come next, by what came last; "end" stands for the close of the innermost container.
_VALUE = {"open", "string", "scalar"}
_AFTER_VALUE = {"comma", "close"}


def _is_json(text: str) -> bool:
    """Check nesting of any depth with a stack of its own; json's decoder recurses and gives up at about 1,000."""
    stack: list[str] = []
    allowed = _VALUE
    position = 0
    is_key = False
    while match := _TOKEN.match(text, position):
        position = match.end()
        kind = match.lastgroup or ""
        if kind not in allowed:
            return False
        mark = match[kind]
        if kind == "open":
            stack.append("]" if mark == "[" else "}")
            is_key = mark == "{"
            allowed = {"string", "close"} if is_key else _VALUE | {"close"}
            continue
        if kind == "close":
            if stack.pop() != mark:
                return False
            is_key = False
        elif kind == "comma":
            is_key = stack[-1] == "}"
            allowed = {"string"} if is_key else _VALUE
            continue
        elif kind == "colon" or is_key:
            allowed = _VALUE if kind == "colon" else {"colon"}
            is_key = False
            continue
        if not stack:
            return position == len(text)
        allowed = _AFTER_VALUE
    return False
