"""Makes untrusted text inert: what could move a cursor, reorder text or hide becomes a visible escape."""

from __future__ import annotations

import json
import re
from typing import Any

# C0, DEL, C1; soft hyphen; invisible letters and joiners; bidirectional controls; line separators; surrogates;
# byte order mark; interlinear annotations; the tag characters. That is what Unicode calls control, format,
# surrogate or separator, and what it calls a letter but no font shows.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u0600-\u0605\u06dd\u070f\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_ANY = re.compile(f"[{_UNSAFE}]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def visible(text: str) -> str:
    """Text that a terminal shows as it is, on one line."""
    return _ANY.sub(lambda match: _SHORT.get(match[0]) or _escape(match[0]), text)


def to_json(value: Any, *, ascii_only: bool = False) -> str:
    """One line of JSON that reads back equal; json.dumps leaves DEL, C1 and bidirectional controls raw."""
    return _ANY.sub(_json_escape, json.dumps(value, ensure_ascii=ascii_only, default=str))


def csv_cell(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula. Numbers of our own stay numbers."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    # A lone tab or carriage return could start a formula too: `visible` has made it a backslash.
    text = visible(
        value if isinstance(value, str) else to_json(value) if isinstance(value, (dict, list)) else str(value)
    )
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _escape(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _json_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
