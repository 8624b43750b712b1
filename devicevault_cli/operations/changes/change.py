"""One procedure for every change: plan it, show the plan, confirm, check that it still holds, apply, journal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

from devicevault_cli.errors import DvctlError, StalePlan
from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.operations.changes.journal import Journal
from devicevault_cli.operations.changes.undo import Undo
from devicevault_cli.operations.named import NO_NAMES, Named

Progress: TypeAlias = Callable[[int], None]
"""Called now and then with the number of items done so far."""

A = TypeVar("A", bound=ChangeAnswer)


def quietly(done: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Generic[A]):
    """A change that is planned and not applied yet.

    says: the plan, one line per item.  undo: how the change is undone, of which the plan and the result inform.
    answer: what the command answers if all goes as planned.  size: how many things change; 0 means that everything
    already is as it should be.  apply: makes the change and reads it back; raises StalePlan where it no longer fits.
    still_true: looks again at what the plan is based on.  preview: the answer of a dry run, where lists are too long to
    keep.  failure: why nothing that was selected succeeded; '' where something did.  refusal: why the change must not
    be applied.  typed: the name that the operator must type to confirm.  named: about the ids and names that were
    typed.  counted: False where there are too many items to count them first; `answer` then holds no numbers.
    """

    command: str
    says: tuple[str, ...]
    undo: Undo
    answer: A
    size: int
    apply: Callable[[], A]
    still_true: Callable[[], bool] = lambda: True
    preview: Callable[[], A] | None = None
    failure: Callable[[A], str] = lambda done: ""
    refusal: DvctlError | None = None
    typed: str | None = None
    named: Named = NO_NAMES
    counted: bool = True

    def lines(self) -> list[str]:
        """The plan, why it would be refused, and what was typed and does not exist."""
        refused = [f"this would be REFUSED: {self.refusal}; {self.refusal.hint}"] if self.refusal else []
        undo = [self.undo.plan] if self.size else []
        return [*self.says, *undo, *refused, *([self.named.says] if self.named.unknown else [])]


def answer_without_applying(change: Change[A], *, dry_run: bool) -> A | None:
    """The answer of a dry run, or of a change that has nothing to do; None where it is to be applied.

    Raises the refusal of a change that must not be applied.
    """
    if dry_run:
        return change.preview() if change.preview else change.answer
    if not change.size:
        return replace(change.answer, applied=not change.named.nothing)
    if change.refusal is not None:
        raise change.refusal
    return None


def carry_out(change: Change[A], journal: Journal) -> A:
    """Apply a confirmed change and journal it. -> its answer

    Raises StalePlan where the state changed since the plan was made; nothing is changed then.
    """
    if not change.still_true():
        raise stale()
    planned = change.answer.to_dict() if change.counted else {}

    def apply() -> A:
        done = replace(change.apply(), applied=True)
        undo = done.undo or (None if change.failure(done) else change.undo.command)
        return replace(done, undo=undo and journal.about.complete(undo))

    return journalled(journal, change.command, planned, apply)


def journalled(journal: Journal, command: str, planned: dict[str, Any], apply: Callable[[], A]) -> A:
    """Make a change and journal its result, also one that failed or was interrupted. -> its answer"""
    try:
        done = apply()
    except DvctlError as error:
        journal.record(command, planned, {"error": str(error)})
        raise
    except BaseException as error:
        journal.record(command, planned, {"interrupted": type(error).__name__})
        raise
    journal.record(command, planned, done.to_dict())
    return done


def stale() -> StalePlan:
    """The refusal of a plan that no longer fits."""
    return StalePlan(
        "the state changed after the plan was made; nothing more was changed",
        hint="the plan as it is now stands above; run the command again to apply that one",
    )
