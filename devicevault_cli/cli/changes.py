"""How every changing command goes: its plan is shown, confirmed, applied, answered, and the way back named."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from devicevault_cli.cli.context import Runtime
from devicevault_cli.errors import NothingSucceeded
from devicevault_cli.operations.changes.interruption import interruptible
from devicevault_cli.operations.changes.plan import Answer, Plan, carry_out
from devicevault_cli.output.table import position
from devicevault_cli.repository.repository import Repository

PLANNED = 1000


def change(
    run: Runtime,
    make: Callable[[], Plan],
    question: str,
    *,
    ids: Callable[[Any], Iterable[object]] | None = None,
    rows: str | None = None,
    hint: str | None = None,
) -> Answer:
    """Carry a plan out and print its answer; `hint` is for a plan that was applied in vain.

    Raises NotConfirmed, StalePlan, NothingMatched, NothingSucceeded and what the operation raises.
    """
    answer, plan = carried_out(run, make, question)
    undo = answer.get("undo")
    try:
        if not (plan.named.nothing and run.printer.output == "table"):
            run.printer.answer(answer, rows, ids=ids, lines=None if rows else _lines)
        run.terminal.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        if answer["applied"]:
            run.printer.warn("the change was made, only the answer could not be written")
        raise
    finally:
        if undo:
            run.printer.hint(f"to undo this: {undo}")
    if plan.named.nothing:
        raise plan.named.error()
    check_success(plan, answer, hint)
    return answer


def carried_out(run: Runtime, make: Callable[[], Plan], question: str) -> tuple[Answer, Plan]:
    """Carry a plan out. -> its answer, and the plan as it was shown last"""
    shown: list[Plan] = []

    def show(plan: Plan) -> None:
        shown.append(plan)
        if not plan.named.nothing:
            run.printer.note(*plan.says, *([plan.named.says] if plan.named.unknown else []))

    with interruptible():
        answer = carry_out(make, show=show, confirm=lambda plan: _confirm(run, plan, question), dry_run=run.dry_run)
    return answer, shown[-1]


def check_success(plan: Plan, answer: Answer, hint: str | None = None) -> None:
    """Raises NothingSucceeded where the plan was applied in vain."""
    if plan.size and answer["applied"] and (why := plan.failure(answer)):
        raise NothingSucceeded(why, hint=hint)


def planned(run: Runtime) -> int | None:
    """How many things a costly plan judges at most: all where somebody decides by it, with `--yes` only a few."""
    return None if run.dry_run or not run.yes else PLANNED


def _confirm(run: Runtime, plan: Plan, question: str) -> None:
    run.confirm(question, plan.typed)


def _lines(answer: Any) -> Iterable[str]:
    """Long lists as their lengths: a person does not read a million ids."""
    for name, value in answer.items():
        if name != "undo" and (name != "unknown" or value):
            yield f"{name.replace('_', ' '):18}  {_brief(value)}"


def _brief(value: Any) -> str:
    if isinstance(value, list) and len(value) > 10:
        return f"{len(value):,}"
    if isinstance(value, list):
        return ", ".join(map(_brief, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_brief(each)}" for name, each in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else position(str(value))


def ready_database(run: Runtime) -> Repository:
    """The repository, after its database has answered."""
    run.repository.check(writing=not run.dry_run)
    return run.repository
