"""One of several streams that a consumer reads: all that belongs to it alone, and how it comes through an outage."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from devicevault_cli.consumer.acknowledge import Acknowledger
from devicevault_cli.consumer.batch import Batch, Quarantined
from devicevault_cli.consumer.dispatch import Dispatch
from devicevault_cli.consumer.failover import FailoverWatch
from devicevault_cli.consumer.group_member import GroupMember
from devicevault_cli.consumer.heartbeat import Heartbeat
from devicevault_cli.consumer.in_hand import InHand
from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.outages import REDIS
from devicevault_cli.consumer.progress import ConsumerProgress
from devicevault_cli.consumer.reader import EntryReader
from devicevault_cli.consumer.retry import Once, shown_wait
from devicevault_cli.consumer.stream_watch import StreamWatch
from devicevault_cli.errors import DvctlError, MissingGroup, Unavailable
from devicevault_cli.log_fields import fields
from devicevault_cli.operations.save import Outcome
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import now_ms

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

log = logging.getLogger("dvctl.consume")

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
ANSWER_S = 5.0
"""How long a read may be answered late before its server counts as away."""


class Source:
    """A stream, its group, and this consumer's place in it.

    Every method that asks Redis lets an outage through; `failed` then says when the next attempt is due. So the others
    are read on. After an outage the own pending entries are read first, as by a consumer of one stream.
    """

    def __init__(
        self,
        consumer: GroupConsumer,
        repository: Repository,
        pipeline: Pipeline,
        options: ConsumeOptions,
        progress: ConsumerProgress,
        dispatch: Dispatch,
        meanwhile: Callable[[], None],
    ) -> None:
        """`meanwhile` is called now and then while entries are looked up again."""
        self.consumer = consumer
        self.key = consumer.stream.key
        self.progress = progress
        self.counters = progress.counters
        self.dispatch = dispatch
        self.in_hand = in_hand = InHand()
        progress.pending = in_hand.__len__
        self.watch = StreamWatch(consumer.group, self.counters, in_hand)
        self.member = GroupMember(consumer, self.watch, options.on_missing_group)
        self.failover = FailoverWatch(consumer.group, pipeline, repository, options.recheck_s, self.counters, meanwhile)
        self.agreed = False
        """Whether this stream knows the database server that is written to."""
        self._retire_after_ms = options.retire_after_ms
        keep = dispatch.keeps_configurations
        self.reader = EntryReader(consumer, pipeline, repository, in_hand, options, keep_configurations=keep)
        self.acknowledger = Acknowledger(consumer, in_hand, self.counters, Once(), self.watch, options.on_reject)
        self.heartbeat = Heartbeat(consumer, in_hand, progress, options.claim_idle_s, self._look)
        self.alone: Quarantined | None = None
        self.embedded = False
        """Whether nothing tells when a read is answered, so that it has to be read again and again."""
        self.looked = 0.0
        """When it was read last, by the monotonic clock."""
        self._joined = False
        self._failures = 0
        self._away = False
        self._answers = False
        self._next_try = 0.0
        self._asked_at = 0.0

    # --- reading

    @property
    def due(self) -> bool:
        """Whether it may be asked: its server answers, or the next attempt is due."""
        return not self._away or (self._answers and time.monotonic() >= self._next_try)

    @property
    def waits_s(self) -> float:
        """Seconds until it may be asked again; of a server that was not reached yet, an estimate."""
        return max(0.05, self._next_try - time.monotonic()) if self._away else 0.0

    def join(self) -> None:
        """See that the group is there. Raises MissingGroup where it is not, and not to be made."""
        if not self._joined:
            self.member.join()
            if self._retire_after_ms is not None:
                self.member.retire_idle(self._retire_after_ms)
            self._joined = True

    def agree(self) -> None:
        """Agree with the other consumers of the group on the database server, as `failover.agree`."""
        self.join()
        self.failover.agree()
        self.agreed = True

    def ask(self) -> None:
        """Have Redis wait for new entries, while others are waited for too."""
        if self.consumer.asked is None:
            asked = self.consumer.ask_new(self.reader.few, BLOCK_MS)
            self._asked_at = time.monotonic()
            if asked.socket is None:
                self.embedded = True
                self.consumer.forget_asked()

    @property
    def overdue(self) -> bool:
        """Whether the server owes an answer for too long: a frozen one breaks no connection."""
        return self.consumer.asked is not None and time.monotonic() - self._asked_at > ANSWER_S

    def read(self, limit: int, most_bytes: int, *, answered: bool) -> Batch | Quarantined:
        """Read what is there, without waiting. `answered`: whether the read that `ask` began is."""
        self.acknowledger.complete()
        self.join()
        new = answered or self.consumer.asked is None
        try:
            batch = self.reader.next(limit, None, most_bytes, new=new)
        except MissingGroup:
            self.member.join()
            return Batch()
        self.answered()
        self.looked = time.monotonic()
        self.counters.waiting = False
        self.progress.has_read = True
        counts = {batch.id: batch.count} if isinstance(batch, Quarantined) else batch.counts
        if counts:
            self.progress.last_delivery = time.monotonic()
        self.in_hand.add(counts)
        self.counters.taken += len(counts)
        self.counters.reclaimed += batch.reclaimed
        return batch

    def begin_to_finish(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Acknowledge a batch that is saved, without waiting for the answer of Redis."""
        self.acknowledger.begin(batch, outcomes)
        self.acknowledger.send()

    def finish(self, batch: Batch, began: float) -> None:
        """Wait for that answer, and do the rest. `began`: when the batch was handed to the database."""
        self.acknowledger.complete()
        self.progress.succeeded_timestamp = now_ms() / 1000
        self.progress.on_batch(len(batch.counts), time.monotonic() - began)

    @property
    def holds(self) -> bool:
        """Whether entries in hand have no outcome yet that Redis knows."""
        return len(self.in_hand) > len(self.acknowledger.unwritten)

    # --- outages

    def answered(self) -> None:
        """Its server did what was asked."""
        self.progress.outages.answered(REDIS)
        self._failures, self._away = 0, False

    def failed(self, error: DvctlError) -> None:
        """Its server did not: say so, and leave it alone for a while."""
        wait_s = random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**self._failures))
        self._failures = min(self._failures + 1, 20)
        self._away, self._next_try = True, time.monotonic() + wait_s
        self._answers = not isinstance(error, Unavailable)
        self.counters.deferred_retries += 1
        self.counters.waiting = True
        outage = self.progress.outages.failed(error)
        level = logging.WARNING if isinstance(error, Unavailable) else logging.ERROR
        about = fields(stream=self.key, server=error.server, attempts=outage.attempts, retry_in_s=round(wait_s, 3))
        hint = f" ({error.hint})" if error.hint else ""
        log.log(level, "stream %s: %s; next try %s%s", self.key, error, shown_wait(wait_s), hint, extra=about)
        self.consumer.forget_asked()
        self.reader.recover()

    def gave_no_answer(self) -> None:
        """The answer that is overdue is given up."""
        where = f"Redis of stream {self.key} does not answer"
        error = Unavailable(where, hint="check that it is running and not overloaded")
        error.server = REDIS
        self.failed(error)

    def _look(self, stream: Stream) -> None:
        """By the thread of the heartbeat, which may wait: whether a server that is away answers again, and the lag."""
        if self._away and not self._answers:
            stream.ping()
            self._answers = True
        self.progress.look(Group(stream, self.consumer.group.name))

    def restore_counts(self) -> None:
        """Put back the delivery counts that were found: an outage of the database is no crash."""
        if self._away or not len(self.in_hand):
            return
        with suppress(DvctlError):
            self.consumer.renew(dict(self.in_hand.counts()))
            if self.alone is not None:
                self.consumer.end_alone(self.alone.id, begun=self.alone.attempts)

    # --- what others see

    def observe(self) -> None:
        """Update what others see, compare the stream with what is known of it, write letters that were left."""
        self.counters.in_hand = len(self.in_hand)
        if self._away:
            self.progress.moves()
            return
        self.progress.update()
        self.watch.tick()
        self.failover.tick()
        self.acknowledger.retry_unwritten()


BLOCK_MS = 500
"""How long Redis waits for new entries: short, so that a request to stop is answered at once."""
