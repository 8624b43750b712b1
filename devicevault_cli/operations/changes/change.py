"""One procedure for every change: plan it, show the plan, confirm, check that it still holds, apply, journal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeAlias, TypeVar

from devicevault_cli.directories import why_no_snapshot
from devicevault_cli.errors import DvctlError, StalePlan
from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.operations.changes.journal import Journal
from devicevault_cli.operations.named import NO_NAMES, Named

Progress: TypeAlias = Callable[[int], None]
"""Called now and then with the number of items done so far."""

A = TypeVar("A", bound=ChangeAnswer)


def quietly(done: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(ABC, Generic[A]):
    """A change that is planned and not applied yet; subclasses add what `apply` needs.

    says: the plan, one line per item.  answer: what the command answers if all goes as planned.  size: how many things
    change; 0 means that everything already is as it should be.  refusal: why the change must not be applied.
    typed: the name that the operator must type to confirm.  named: about the ids and names that were typed.
    counted: False where there are too many items to count them first; `answer` then holds no numbers.
    """

    command: str
    says: tuple[str, ...]
    answer: A
    size: int
    refusal: DvctlError | None = None
    typed: str | None = None
    named: Named = NO_NAMES
    counted: bool = True

    @abstractmethod
    def apply(self) -> A:
        """Make the change and read it back. Raises StalePlan where it no longer fits."""

    def still_true(self) -> bool:
        """Look again at what the plan is based on."""
        return True

    def preview(self) -> A:
        """The answer of a dry run: `answer`, with lists that are too long to keep."""
        return self.answer

    def failure(self, done: A) -> str:
        """Why nothing that was selected succeeded; '' where something did."""
        return ""


def answer_without_applying(change: Change[A], *, dry_run: bool) -> A | None:
    """The answer of a dry run, or of a change that has nothing to do; None where it is to be applied.

    Raises the refusal of a change that must not be applied.
    """
    if dry_run:
        return change.preview()
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
    try:
        done = replace(change.apply(), applied=True)
    except DvctlError as error:
        journal.record(change.command, planned, {"error": str(error)})
        raise
    except BaseException as error:
        journal.record(change.command, planned, {"interrupted": type(error).__name__})
        raise
    journal.record(change.command, planned, done.to_dict())
    return done


def stale() -> StalePlan:
    """The refusal of a plan that no longer fits."""
    return StalePlan(
        "the state changed after the plan was made; nothing more was changed",
        hint="the plan as it is now stands above; run the command again to apply that one",
    )


def snapshot_refusal(refusal: DvctlError | None, size: int) -> DvctlError | None:
    """The refusal of a change that writes a snapshot first: the one given, or that no snapshot can be written."""
    return refusal or (why_no_snapshot() if size else None)


def reason(refusal: DvctlError | None) -> str | None:
    """The key `refused` of an answer."""
    return str(refusal) if refusal else None


def says_refused(refusal: DvctlError | None) -> list[str]:
    """The line of a plan that would be refused: a dry run is not."""
    return [f"this would be REFUSED: {refusal}; {refusal.hint}"] if refusal else []
