"""Which database server is written to: remembered beside the stream, compared after each connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from devicevault_cli.consumer.counters import Counters
from devicevault_cli.errors import DvctlError, MissingGroup, OtherServer, Refused, WrongType
from devicevault_cli.log_fields import fields
from devicevault_cli.operations.database.fail_over import (
    Rechecked,
    incident,
    recheck,
    refusal,
    sentence,
    server_of,
)
from devicevault_cli.operations.verify.repair import Repaired
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.repository.model import Server
from devicevault_cli.streams import written_to
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.written_to import MARKS, Mark, Stored, WrittenTo
from devicevault_cli.times import now_ms

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

log = logging.getLogger("dvctl.consume")

LOOK_S = 2.0
"""How often a look is taken whether another consumer has met a promoted standby."""
IDLE_LOOK_S = 10.0
"""How often the database is asked while there is nothing to save."""


class FailoverWatch:
    """Agrees with the other consumers of the group on the server that is written to.

    A repository saves on the agreed server only, and raises OtherServer on any other: then `agree` decides. Of a server
    that does not identify itself (not PostgreSQL) nothing is remembered. `meanwhile` is called for each page looked up.
    """

    def __init__(
        self,
        group: Group,
        pipeline: Pipeline,
        repository: Repository,
        recheck_s: float,
        counters: Counters,
        meanwhile: Callable[[], None],
    ) -> None:
        self._group, self._pipeline, self._repository = group, pipeline, repository
        self._recheck_ms = round(recheck_s * 1000)
        self._counters, self._meanwhile = counters, meanwhile
        self._agreed: Server | None = None
        self._remembered: WrittenTo | None = None
        self._beside = True
        self._next_look = self._next_idle_look = self._next_mark = 0.0

    # --- comparing

    def check(self) -> None:
        """At the start, without looking entries up: raises OtherServer for a server that must not be written to."""
        found, known = self._repository.server(), self._read().known
        if found and known and (error := self._refusal(known, found)):
            raise error

    def agree(self) -> None:
        """Compare the server that answers now with the one remembered, and restore what a promoted standby lacks.

        From then on it is the one that is written to. Raises OtherServer where it must not be, and what the libraries
        raise; until the next call nothing can be saved then, except on the server agreed on before.
        """
        required = self._agreed
        self._repository.require_server(None)
        try:
            found = self._repository.server()
            if found is not None:
                stored = self._read()
                if stored.known is not None:
                    required = server_of(stored.known)
                self._agree_on(found, stored)
                required = found
        except BaseException:
            self._repository.close()
            raise
        finally:
            self._repository.require_server(required)

    def _agree_on(self, found: Server, stored: Stored) -> None:
        before = stored.known or self._remembered
        if before is not None and (error := self._refusal(before, found)):
            raise error
        crossed = self._agreed if self._agreed is not None and not self._agreed.is_same(found) else None
        if before is not None and not server_of(before).is_same(found):
            crossed = server_of(before)
        elif before is not None and before.unchecked:
            crossed = crossed or server_of(before)
        # Before entries are looked up: what others save meanwhile on the old server belongs to a later entry.
        mark = self._mark()
        detail = None
        if crossed is not None:
            self._repository.require_server(found)
            done = self._recheck(before)
            detail = sentence(done, crossed, found, self._repository.where)
            about = fields(
                timeline=found.timeline,
                timeline_before=crossed.timeline,
                rechecked=done.entries,
                restored=done.restored,
            )
            log.log(logging.ERROR if done.restored else logging.WARNING, "%s", detail, extra=about)
            detail = detail if done.restored else None
        if crossed is not None or stored.known is None:
            self._remember(found, stored, mark, detail)
        self._agreed = found

    def _refusal(self, known: WrittenTo, found: Server) -> OtherServer | None:
        return refusal(known, found, self._repository.where, self._group.name)

    def _recheck(self, before: WrittenTo | None) -> Rechecked:
        since = before.recheck_from if before is not None and self._recheck_ms else None
        if since is None:
            return Rechecked(None, 0, Repaired())
        log.warning(
            "the database server has changed: looking up entries since %s again", since, extra=fields(since=str(since))
        )
        done = recheck(self._group, self._pipeline, self._repository, since, self._count)
        self._counters.recovered += done.restored
        return done

    def _count(self, found: int) -> None:
        self._counters.rechecked += found
        self._meanwhile()

    # --- remembering

    def _read(self) -> Stored:
        if self._beside:
            try:
                return written_to.read(self._group)
            except (Refused, WrongType) as error:
                self._beside = False
                log.warning("the database server will not be remembered: %s (%s)", error, error.hint)
        return Stored(b"", None)

    def _remember(self, found: Server, stored: Stored, mark: Mark | None, detail: str | None = None) -> None:
        """Remember a server, and record an incident, whatever other consumers write meanwhile."""
        while True:
            known = stored.known or self._remembered
            if known is None or not server_of(known).is_same(found) or known.unchecked:
                known = WrittenTo(found.system, found.timeline, found.position, self._recheck_ms)
            known = replace(known, position=found.position, recheck_ms=self._recheck_ms)
            if mark is not None and self._recheck_ms:
                known = known.with_mark(mark)
            self._remembered = known
            if not self._beside:
                return
            record = None if detail is None else incident(self._group, detail).to_json()
            try:
                if written_to.remember(self._group, stored, known, record):
                    return
            except Refused as error:
                self._beside = False
                log.warning("the database server will not be remembered: %s (%s)", error, error.hint)
                return
            stored = self._read()
            if stored.known is not None and stored.known.timeline > found.timeline:
                return  # another consumer is ahead: the next look finds that

    def _mark(self) -> Mark | None:
        try:
            first: EntryId | None = written_to.low_water(self._group)
        except MissingGroup:
            return None
        return None if first is None else Mark(now_ms(), first)

    # --- now and then

    def saved(self) -> None:
        """After a batch was saved: set a mark now and then. Does not raise dvctl's errors."""
        now = time.monotonic()
        self._next_idle_look = now + IDLE_LOOK_S
        if self._agreed is None or not self._recheck_ms or now < self._next_mark:
            return
        self._next_mark = now + max(1.0, self._recheck_ms / 1000 / MARKS)
        try:
            stored = self._read()
            if stored.known is None or server_of(stored.known).is_same(self._agreed):
                self._remember(self._agreed, stored, self._mark())
        except DvctlError as error:
            log.debug("no mark was set: %s", error)

    def tick(self) -> None:
        """Now and then: has another consumer met a promoted standby? Does not raise dvctl's errors.

        Then this one is still connected to the old primary, and saves nothing more on it.
        """
        if self._agreed is None or not self._beside or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S
        try:
            stored = self._read()
            known = stored.known
            if known is None and self._beside:
                self._remember(self._agreed, stored, None)  # Redis was flushed
        except DvctlError as error:
            log.debug("could not look at the database server that is remembered: %s", error)
            return
        if known is not None and not server_of(known).is_same(self._agreed):
            self._repository.require_server(server_of(known))

    def look_while_idle(self) -> bool:
        """Whether it is time to ask an idle database whether it still is the same server."""
        return self._agreed is not None and time.monotonic() >= self._next_idle_look

    def look(self) -> None:
        """Ask the database, and agree anew where it is another server. Raises what `agree` raises."""
        found = self._repository.server()
        if found is None or self._agreed is None or not self._agreed.is_same(found):
            self.agree()
        self._next_idle_look = time.monotonic() + IDLE_LOOK_S
