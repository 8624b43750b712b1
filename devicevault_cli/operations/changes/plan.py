"""One shape for every change: plan -> confirm -> apply -> read back -> undo line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from devicevault_cli.directories import why_no_snapshot
from devicevault_cli.errors import DvctlError, StalePlan
from devicevault_cli.operations.changes import journal
from devicevault_cli.operations.named import NO_NAMES, Named

Progress: TypeAlias = Callable[[int], None]
"""Told now and then how many items are done so far."""

Answer: TypeAlias = dict[str, Any]
"""What a command answers: the keys of its `-o json`."""


def succeeded(answer: Answer) -> str:
    """Nothing to complain of."""
    return ""


def quietly(done: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command means to do, worked out before anything is touched.

    `says`: a line each, in numbers.  `answer`: what the command would answer.  `size`: how many things would change; 0
    means that all is as it should be already.  `apply` changes and reads back, and returns what is to replace the
    planned answer, with `undo`, the command that takes it back, where there is one.  `still_true` looks again at what
    the plan rests on.  `refusal` is why this must not be applied at all.  `typed` is the name that must be typed.
    `preview` is what only a dry run answers, too long to be kept beside the result.  `snapshot`: `apply` writes one
    first, so that without a place for it the plan is refused.  `named` is about the ids and names that were typed.
    `failure` says of the answer why nothing that was selected succeeded, '' where something did.
    """

    command: str
    says: tuple[str, ...]
    answer: Answer
    size: int
    apply: Callable[[], Answer]
    still_true: Callable[[], bool]
    refusal: DvctlError | None = None
    typed: str | None = None
    preview: Callable[[], Answer] = dict
    snapshot: bool = False
    named: Named = NO_NAMES
    failure: Callable[[Answer], str] = succeeded


def carry_out(
    make: Callable[[], Plan],
    *,
    show: Callable[[Plan], None],
    confirm: Callable[[Plan], None],
    dry_run: bool = False,
) -> Answer:
    """Make a plan, show it and, once confirmed, apply it. -> its answer with `applied`

    `confirm` raises NotConfirmed for a no.  Raises StalePlan, after showing the new plan, when what the plan rests on
    has changed while the operator was thinking; nothing is changed then.
    """
    plan = _refused_without_snapshot(make())
    show(plan)
    if dry_run:
        return plan.answer | plan.preview() | {"applied": False}
    if not plan.size:
        return plan.answer | {"applied": not plan.named.nothing}
    if plan.refusal is not None:
        raise plan.refusal
    with journal.opened() as opened:
        confirm(plan)
        try:
            if not plan.still_true():
                raise stale()
            return _apply(plan, opened) | {"applied": True}
        except StalePlan:
            show(make())
            raise


def _refused_without_snapshot(plan: Plan) -> Plan:
    if not (plan.snapshot and plan.size and plan.refusal is None):
        return plan
    why = why_no_snapshot()
    if why is None:
        return plan
    answer = plan.answer | ({"refused": str(why)} if "refused" in plan.answer else {})
    says = (*plan.says, f"this would be REFUSED, because a snapshot is written first: {why}; {why.hint}")
    return replace(plan, says=says, answer=answer, refusal=why)


def stale() -> StalePlan:
    """The refusal of a plan that is no longer true."""
    return StalePlan(
        "the state changed after the plan was made; nothing more was changed",
        hint="the plan as it is now stands above; run the command again to apply that one",
    )


def _apply(plan: Plan, opened: journal.Journal) -> Answer:
    try:
        result = plan.answer | plan.apply()
    except DvctlError as error:
        opened.record(plan.command, plan.answer, {"error": str(error)})
        raise
    except BaseException as error:
        opened.record(plan.command, plan.answer, {"interrupted": type(error).__name__})
        raise
    opened.record(plan.command, plan.answer, result)
    return result


def some(names: list[str], most: int = 5, total: int | None = None) -> str:
    """A few of many, for a line of a plan; `total` where not all names are at hand."""
    shown = ", ".join(names[:most])
    more = (len(names) if total is None else total) - min(most, len(names))
    return f"{shown} and {more:,} more" if more > 0 else shown


def number(count: int, one: str, many: str | None = None) -> str:
    """`1 entry`, `2,000 entries`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def chosen_number(count: int, one: str, many: str | None = None) -> str:
    """The number of what was selected, and in words where that is nothing."""
    return f"{'' if count else 'nothing matched: '}{number(count, one, many)}"


def entries(count: int) -> str:
    """`1 entry`, `2,000 entries`."""
    return number(count, "entry", "entries")
