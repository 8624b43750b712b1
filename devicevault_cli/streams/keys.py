"""The names of the keys beside a stream, all in the stream's own hash slot."""

from __future__ import annotations

import re

_HASH_TAG = re.compile(r"\{[^}]+\}")


def beside(stream: str, suffix: str) -> str:
    """`STREAM:suffix` where the stream's name has a hash tag, else `{STREAM}:suffix`."""
    return f"{stream}:{suffix}" if _HASH_TAG.search(stream) else f"{{{stream}}}:{suffix}"


def dead(stream: str) -> str:
    """The stream of dead letters."""
    return beside(stream, "dead")


def dead_ids(stream: str) -> str:
    """A hash: `ID GROUP` -> the id of the dead letter, so that a message has one letter a group."""
    return beside(stream, "dead:ids")


def discarded(stream: str) -> str:
    """A sorted set of what was given up on purpose; the score is the milliseconds of the id."""
    return beside(stream, "discarded")


def alone(stream: str) -> str:
    """A hash: `ID GROUP` -> how often a suspect was processed alone without an end."""
    return beside(stream, "alone")


def seen(stream: str) -> str:
    """A hash: GROUP -> JSON of the stream and the group as a consumer of it saw them last."""
    return beside(stream, "seen")


def incidents(stream: str) -> str:
    """A hash: number -> JSON of an incident; `next` is the number given last."""
    return beside(stream, "incidents")


def member(entry_id: object, group: str) -> str:
    """The field under which the hashes know an entry of a group."""
    return f"{entry_id} {group}"
