"""How a change is undone: what its plan and its result say about that. Every change has one."""

from __future__ import annotations

from dataclasses import dataclass

CANNOT = "this cannot be undone"
TO_UNDO = "to undo this: "


@dataclass(frozen=True, slots=True)
class Undo:
    """plan: a line of the plan.  result: what is said of the change once it is made, unless its answer has a command.

    command: the command that undoes it, where that is known before the change is made.  prefix: what stands before the
    command of the answer.
    """

    plan: str
    result: str = ""
    command: str | None = None
    prefix: str = TO_UNDO


def by_command(command: str, prefix: str = TO_UNDO) -> Undo:
    """A command undoes the change."""
    return Undo(f"{prefix}{command}", command=command, prefix=prefix)


def by_snapshot(restores: str) -> Undo:
    """A file is written first, and the answer names the command that restores it."""
    return Undo(f"a snapshot is written first; {restores}")


def one_by_one(sentence: str, prefix: str = TO_UNDO) -> Undo:
    """A command undoes the change for one item at a time; the sentence names it."""
    return Undo(sentence, sentence, prefix=prefix)


def impossible(why: str = "", first: str | None = None) -> Undo:
    """Nothing undoes the change. `first`: what keeps a copy, to be done before."""
    said = f"{CANNOT}: {why}" if why else CANNOT
    return Undo(f"{said}; to keep a copy first: {first}" if first else said, said)
