"""Splits a batch so that no identity stands twice in what one statement looks up and inserts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from devicevault_cli.records import Identity, Record, identity


class Wave(NamedTuple):
    """Positions in the batch whose identities are distinct; all have a `task_identifier`, or none has."""

    positions: list[int]
    named: bool


def waves(records: Sequence[Record], *, by_identifier: bool = False) -> list[Wave]:
    """The batch in waves: the n-th of several records with one identity is in the n-th wave of its kind.

    So a follower finds the row that the first one of its identity left. `by_identifier`: within a wave the records
    are in the order of their identifiers, so that transactions that wait for each other's rows cannot deadlock.
    """
    turns: list[Wave] = []
    seen: dict[Identity, int] = {}
    found: dict[tuple[int, bool], Wave] = {}
    for position, record in enumerate(records):
        key = identity(record)
        turn = seen[key] = seen.get(key, -1) + 1
        which = (turn, bool(record.task_identifier))
        if which not in found:
            found[which] = Wave([], which[1])
            turns.append(found[which])
        found[which].positions.append(position)
    for wave in turns if by_identifier else ():
        if wave.named:
            wave.positions.sort(key=lambda position: records[position].task_identifier)
    return turns
