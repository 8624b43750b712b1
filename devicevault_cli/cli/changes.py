"""What every changing command does: show the plan, confirm, apply, print the answer and the command that undoes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from devicevault_cli.cli.context import Context
from devicevault_cli.errors import NothingSucceeded, StalePlan, Usage

if TYPE_CHECKING:
    from devicevault_cli.operations.answer import ChangeAnswer
    from devicevault_cli.operations.changes.change import A, Change
    from devicevault_cli.operations.changes.journal import About
    from devicevault_cli.operations.dispatch.hand_over import HandOver
    from devicevault_cli.repository.repository import Repository

PLANNED = 1000


def change(
    ctx: Context,
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
    if ctx.plans is not None:
        from devicevault_cli.cli.several import Planned

        ctx.plans.append(Planned(ctx, make(), question, ids, hint))
        return
    planned, done = carried_out(ctx, make, question)
    nothing = planned.named.nothing
    _print(ctx, planned, done, ids, quiet=nothing and ctx.printer.output == "table")
    if nothing:
        raise planned.named.error()
    check_success(planned, done, hint)


def _print(
    ctx: Context,
    planned: Change[A],
    done: A,
    ids: Callable[[Any], Iterable[object]] | None,
    *,
    quiet: bool = False,
) -> None:
    """Print the answer, unless `quiet`, and how the change is undone."""
    from devicevault_cli.output.change_page import result_lines

    answer = facts_of(done)
    try:
        if not quiet:
            ctx.printer.answer(answer, ids=ids, view=lambda found, view: result_lines(ctx.command, found, view))
        ctx.terminal.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        if done.applied:
            ctx.printer.warn("the change was made, only the answer could not be written")
        raise
    finally:
        tell_undo(ctx, planned, done)


def facts_of(done: ChangeAnswer) -> dict[str, Any]:
    """The answer as JSON types; of a change that was made also where no command undoes it."""
    answer = done.to_dict()
    return {"undo": None} | answer if done.applied else answer


def tell_undo(ctx: Context, planned: Change[A], done: A) -> None:
    """Say how a change that was made is undone, or that nothing undoes it."""
    if not (done.applied and planned.size) or planned.failure(done):
        return
    if done.undo:
        ctx.printer.hint(f"{planned.undo.prefix}{done.undo}")
    elif planned.undo.result:
        ctx.printer.hint(planned.undo.result)


def about(ctx: Context, repository: Repository | None = None) -> About:
    """What the journal says of the command; the servers are those that were opened, `repository` by the caller."""
    from devicevault_cli.cli.repeated import completed, typed_line
    from devicevault_cli.operations.changes.journal import About
    from devicevault_cli.output.change_page import result_sentence

    redis = "client" in ctx.__dict__
    database = ctx.repository if "repository" in ctx.__dict__ else repository
    facts = {
        "stream": ctx.settings["stream"].shown if redis else None,
        "group": ctx.settings.group if redis else None,
        "redis": ctx.settings["redis_url"].shown if redis else None,
        "database": database.where if database else None,
    }
    return About(typed_line(ctx), facts, result_sentence, lambda undo: completed(ctx, undo))


def carried_out(ctx: Context, make: Callable[[], Change[A]], question: str) -> tuple[Change[A], A]:
    """Plan a change, show the plan and, once confirmed, apply it. -> the plan and the answer

    Raises StalePlan, after showing the new plan, where the state changed while the operator was thinking.
    """
    from devicevault_cli.operations.changes import journal
    from devicevault_cli.operations.changes.change import answer_without_applying, carry_out
    from devicevault_cli.operations.changes.interruption import interruptible

    with interruptible():
        planned = make()
        _show(ctx, planned)
        answer = answer_without_applying(planned, dry_run=ctx.dry_run)
        if answer is not None:
            return planned, answer
        with journal.opened(about(ctx)) as opened:
            ctx.confirm(question, planned.typed)
            try:
                return planned, carry_out(planned, opened)
            except StalePlan:
                _show(ctx, make())
                raise


def _show(ctx: Context, change: Change[Any]) -> None:
    """The plan, and at its end the servers that it is about."""
    agreed = ctx.yes or ctx.confirm_name is not None
    if not change.named.nothing and not (ctx.printer.quiet and agreed):
        ctx.printer.plan(change.lines())
        ctx.printer.strong(f"target: {ctx.target}")


def check_success(change: Change[A], done: A, hint: str | None = None) -> None:
    """Raises NothingSucceeded where a change was applied and nothing succeeded."""
    if change.size and done.applied and (why := change.failure(done)):
        raise NothingSucceeded(why, hint=hint)


def planned(ctx: Context) -> int | None:
    """At most how many items a plan counts: all where somebody decides by it, with `--yes` only a few."""
    return None if ctx.dry_run or not ctx.yes else PLANNED


def ready_database(ctx: Context, *, saving: bool = False, trusting: bool = False) -> Repository:
    """The repository, after its database has answered.

    `saving`: records are to be saved. `trusting`: entries are given up because they have rows. Raises OtherServer in
    both cases where an old primary answers, unless nothing changes.
    """
    ctx.repository.check(writing=not ctx.dry_run)
    if saving and not ctx.dry_run:
        ctx.repository.require_single_writer()
    if (saving or trusting) and not ctx.dry_run:
        from devicevault_cli.operations.database.fail_over import require_current

        require_current(ctx.group, ctx.repository)
    return ctx.repository


def to_storage(ctx: Context, *, wanted: bool) -> HandOver | None:
    """The way to the storage workers, after the broker has answered; None where it is not wanted, or nothing changes.

    Raises BadConfig where no broker is configured.
    """
    if not wanted:
        if ctx.pipeline.dispatches and ctx.settings.broker_url and not ctx.settings.no_dispatch:
            ctx.printer.hint(
                "add --dispatch to hand configurations to the storage workers, or run `dvctl dispatch` later"
            )
        return None
    if not ctx.pipeline.dispatches:
        raise Usage("only messages of the results pipeline have configurations: leave --dispatch out")
    _ = ctx.broker  # from now on the plan names it
    if ctx.dry_run:
        return None
    from devicevault_cli.operations.dispatch.hand_over import HandOver

    publisher = ctx.required_publisher()
    publisher.check()
    return HandOver(ctx.stream.key, ctx.repository, publisher)
