"""What every changing command does: show the plan, confirm, apply, print the answer and the command that undoes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from devicevault_cli.cli.context import Runtime
from devicevault_cli.errors import NothingSucceeded, StalePlan

if TYPE_CHECKING:
    from devicevault_cli.operations.answer import ChangeAnswer
    from devicevault_cli.operations.changes.change import A, Change
    from devicevault_cli.repository.repository import Repository

PLANNED = 1000


def change(
    run: Runtime,
    make: Callable[[], Change[A]],
    question: str,
    *,
    ids: Callable[[Any], Iterable[object]] | None = None,
    hint: str | None = None,
) -> None:
    """Plan a change, carry it out and print its answer.

    ids: what `-o ids` prints.  hint: for a change that was applied without any success.  Raises NotConfirmed,
    StalePlan, NothingMatched, NothingSucceeded and what the operation raises.
    """
    planned, done = carried_out(run, make, question)
    nothing = planned.named.nothing
    _print(run, done, ids, quiet=nothing and run.printer.output == "table")
    if nothing:
        raise planned.named.error()
    check_success(planned, done, hint)


def _print(
    run: Runtime, done: ChangeAnswer, ids: Callable[[Any], Iterable[object]] | None, *, quiet: bool = False
) -> None:
    """Print the answer, unless `quiet`, and the command that undoes the change."""
    answer = done.to_dict()
    try:
        if not quiet:
            run.printer.answer(answer, ids=ids, lines=_lines)
        run.terminal.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        if done.applied:
            run.printer.warn("the change was made, only the answer could not be written")
        raise
    finally:
        if undo := answer.get("undo"):
            run.printer.hint(f"to undo this: {undo}")


def carried_out(run: Runtime, make: Callable[[], Change[A]], question: str) -> tuple[Change[A], A]:
    """Plan a change, show the plan and, once confirmed, apply it. -> the plan and the answer

    Raises StalePlan, after showing the new plan, where the state changed while the operator was thinking.
    """
    from devicevault_cli.operations.changes import journal
    from devicevault_cli.operations.changes.change import answer_without_applying, carry_out
    from devicevault_cli.operations.changes.interruption import interruptible

    with interruptible():
        planned = make()
        _show(run, planned)
        answer = answer_without_applying(planned, dry_run=run.dry_run)
        if answer is not None:
            return planned, answer
        with journal.opened() as opened:
            run.confirm(question, planned.typed)
            try:
                return planned, carry_out(planned, opened)
            except StalePlan:
                _show(run, make())
                raise


def _show(run: Runtime, change: Change[Any]) -> None:
    if not change.named.nothing:
        run.printer.note(*change.lines())


def check_success(change: Change[A], done: A, hint: str | None = None) -> None:
    """Raises NothingSucceeded where a change was applied and nothing succeeded."""
    if change.size and done.applied and (why := change.failure(done)):
        raise NothingSucceeded(why, hint=hint)


def planned(run: Runtime) -> int | None:
    """At most how many items a plan counts: all where somebody decides by it, with `--yes` only a few."""
    return None if run.dry_run or not run.yes else PLANNED


def _lines(answer: Any) -> Iterable[str]:
    """Long lists as their lengths: a person does not read a million ids."""
    for name, value in answer.items():
        if name != "undo" and (name != "unknown" or value):
            yield f"{name.replace('_', ' '):18}  {_brief(value)}"


def _brief(value: Any) -> str:
    from devicevault_cli.output.table import position

    if isinstance(value, list) and len(value) > 10:
        return f"{len(value):,}"
    if isinstance(value, list):
        return ", ".join(map(_brief, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_brief(item)}" for name, item in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else position(str(value))


def ready_database(run: Runtime) -> Repository:
    """The repository, after its database has answered."""
    run.repository.check(writing=not run.dry_run)
    return run.repository
