"""dvctl top: the group, live."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.cli.values import parsed
from devicevault_cli.errors import DvctlError, Usage
from devicevault_cli.pipelines import PIPELINES
from devicevault_cli.times import parse_pause

if TYPE_CHECKING:
    from devicevault_cli.operations.monitoring.top import DatabaseProbe, Top, TopAnswer
    from devicevault_cli.output.live import Page
    from devicevault_cli.output.screen import Screen
    from devicevault_cli.repository.repository import Repository

FAILURES = 30
SHORTEST_MS = 200


@command("dvctl top", "dvctl top --pipeline storage --interval 5s", screen=True)
def top(
    ctx: Context,
    interval: Annotated[
        int,
        typer.Option(
            "--interval",
            help="Time between two looks.",
            metavar="DURATION",
            parser=parsed(parse_pause, SHORTEST_MS, " ms"),
            show_default="2s",
        ),
    ] = 2000,
) -> None:
    """Watch lag, rates, consumers and new dead letters live.

    Keys: q quits, p pauses, g shows the next group of the stream, s the other pipeline, ? lists the keys. An outage
    of Redis or of the database is shown and waited for.
    """
    from devicevault_cli.operations.monitoring.top import DatabaseProbe, Top

    if not ctx.terminal.can_draw:
        raise Usage(
            "top needs a terminal to draw on",
            hint="`dvctl status` and `dvctl check` answer once, `consume` serves metrics",
        )
    # An unreachable Redis is reported as by every command, before the screen is taken.
    first = Top(ctx.group)
    found: TopAnswer | DvctlError = first.read(FAILURES)
    from devicevault_cli.output.screen import screen

    with ExitStack() as probes:
        page = probes.enter_context(screen(ctx.terminal))
        watched = {ctx.pipeline.name: _Watched(ctx, first, probes.enter_context(DatabaseProbe(_opener(ctx))))}
        now = watched[ctx.pipeline.name]
        paused = keys = False
        while True:
            _draw(now, page, found, paused=paused, keys=keys)
            pressed = page.key(interval / 1000).lower()
            if pressed == "\x03":
                raise KeyboardInterrupt
            if pressed == "q":
                return
            paused ^= pressed == "p"
            keys ^= pressed in ("?", "h")
            if pressed == "g":
                now.state = _next(now, found)
            if pressed == "s":
                now = _other(now, watched, probes)
            if not paused or pressed in ("g", "s"):
                found = _read(now.state)


@dataclass(slots=True)
class _Watched:
    """A pipeline that is or was on the screen: what it had shown goes on when it comes back."""

    ctx: Context
    state: "Top"
    database: "DatabaseProbe"


def _other(now: _Watched, watched: dict[str, _Watched], probes: ExitStack) -> _Watched:
    """The other pipeline, with connections of its own from the first time on."""
    from devicevault_cli.operations.monitoring.top import DatabaseProbe, Top
    from devicevault_cli.settings import of_other_pipeline

    name = next(name for name in PIPELINES if name != now.ctx.pipeline.name)
    if name not in watched:
        ctx = replace(now.ctx, settings=of_other_pipeline(now.ctx.settings, now.ctx.terminal.environ), further=())
        watched[name] = _Watched(ctx, Top(ctx.group), probes.enter_context(DatabaseProbe(_opener(ctx))))
    return watched[name]


def _read(state: "Top") -> "TopAnswer | DvctlError":
    try:
        return state.read(FAILURES)
    except DvctlError as error:  # also a key that holds something else for now
        return error


def _next(now: _Watched, found: "TopAnswer | DvctlError") -> "Top":
    """The group after this one, of those that the stream had when it was read."""
    from devicevault_cli.operations.monitoring.top import Top
    from devicevault_cli.streams.group import Group

    present = now.state.group.name
    names = [] if isinstance(found, DvctlError) else [group.name for group in found.status.groups]
    if present in names:
        names = names[names.index(present) + 1 :] + names[: names.index(present)]
    return Top(Group(now.ctx.stream, names[0])) if names else now.state


def _opener(ctx: Context) -> "Callable[[], Repository] | None":
    """What opens a repository of the thread's own; None where no database is configured."""
    if not ctx.settings.has_database:
        return None

    def opened() -> "Repository":
        from devicevault_cli.repository import open_repository
        from devicevault_cli.repository.tables import TABLES

        return open_repository(ctx.settings.database_url, TABLES[ctx.pipeline.table])

    return opened


def _draw(now: _Watched, page: "Screen", found: "TopAnswer | DvctlError", *, paused: bool, keys: bool) -> None:
    from devicevault_cli.output.live import lines, trouble

    width, height = page.size
    view = replace(now.ctx.printer.view, width=width)
    about = (now.ctx.settings.stream, now.state.group.name)
    drawn: Sequence[str]
    if isinstance(found, DvctlError):
        drawn = trouble(*about, str(found), view, now.ctx.pipeline.name)
    else:
        drawn = lines(*about, _page(now, found), view, height, paused=paused, keys=keys)
    page.show(drawn)


def _page(now: _Watched, found: "TopAnswer") -> "Page":
    from devicevault_cli.operations.monitoring.status import TableStatus, database_state
    from devicevault_cli.operations.monitoring.verdict import verdict
    from devicevault_cli.output.live import Courses, GroupFigures, Page

    ctx, group, database = now.ctx, found.group, now.database.error
    status = replace(found.status, table=TableStatus(ctx.pipeline.table, error=database)) if database else found.status
    said = verdict(status, ctx.settings.stream, now.state.group.name)
    looks = found.looks
    return Page(
        found.status.stream.length if found.status.stream else None,
        GroupFigures(group.lag, group.lag_s, group.pending, group.oldest_pending_age_ms, *found.rates)
        if group
        else None,
        found.status.dead.length,
        found.status.discarded,
        [consumer.to_dict() for consumer in found.consumers],
        [letter.to_dict() for letter in found.failures],
        found.incidents,
        f"{database_state(database)} ({database})" if database else None,
        said.state,
        said.text,
        Courses(*([getattr(look, name) for look in looks] for name in ("lag", "arriving", "processed", "dead"))),
        ctx.pipeline.name,
    )
