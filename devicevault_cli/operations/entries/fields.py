"""The fields of a message as text."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from devicevault_cli.streams.letters import PACKED
from devicevault_cli.streams.model import pairs_of

SECRET_FIELDS = frozenset({b"device_config", b"_dvctl.original.device_config", PACKED})
"""The configuration, also where a repair keeps it, and where a damaged dead letter has it in its packed fields."""


def field_text(fields: Mapping[bytes, bytes], name: bytes) -> str | None:
    """The value of a field as text, None if absent; bytes that are not UTF-8 become backslash escapes."""
    value = fields.get(name)
    return None if value is None else _text(value)


def shown_fields(fields: Mapping[bytes, bytes], reveal: bool = False) -> dict[str, str | list[str]]:
    """Fields as text; a secret one as its size and the beginning of its SHA-256 unless revealed.

    A name that occurs more than once has a list of its values, of which consuming takes the last.
    """
    shown: dict[str, str | list[str]] = {}
    for name, value in pairs_of(fields):
        label, text = _text(name), _shown_value(name, value, reveal)
        before = shown.get(label)
        if before is None:
            shown[label] = text
        else:
            shown[label] = [*before, text] if isinstance(before, list) else [before, text]
    return shown


def _shown_value(name: bytes, value: bytes, reveal: bool) -> str:
    if reveal or name not in SECRET_FIELDS or not value:
        return _text(value)
    return f"<{len(value)} bytes, sha256 {sha256(value).hexdigest()[:12]}>"


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
