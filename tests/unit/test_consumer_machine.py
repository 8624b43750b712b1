"""The consumer as a state machine: publish, deliver, crash at any step, claim, resume in any order; one row each."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import fakeredis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from devicevault_cli.consumer.retry import shown_wait
from devicevault_cli.messages import Decoded, decode_result
from devicevault_cli.repository import open_repository
from devicevault_cli.repository.tables import RESULTS
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream
from tests.support.consuming import GROUP, drain, good, letters
from tests.support.sqlite_database import SqliteFiles

names = st.sampled_from(["a", "b", "c"])


class ConsumerMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.stream = Stream(fakeredis.FakeRedis(version=(7,)), "device:results")
        self.group = Group(self.stream, GROUP)
        self.group.create()
        self.repository = open_repository(SqliteFiles(Path(self.folder.name)).database(), RESULTS)
        self.repository.check()
        self.published: list[dict[bytes, bytes]] = []
        self.bad = 0

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        fresh = [dict(message) for message in good(count)]
        self.published += fresh
        self.stream.add(fresh)

    @rule(data=st.data())
    def publish_again(self, data: st.DataObject) -> None:
        if self.published:
            self.stream.add([data.draw(st.sampled_from(self.published))])

    @rule()
    def publish_bad(self) -> None:
        self.bad += 1
        self.stream.add([{b"device_id": b"none"}])

    @rule(name=names, count=st.integers(1, 5))
    def die_after_delivery(self, name: str, count: int) -> None:
        GroupConsumer(self.group, name).read_new(count)

    @rule(name=names, count=st.integers(1, 5))
    def die_after_commit(self, name: str, count: int) -> None:
        entries = GroupConsumer(self.group, name).read_new(count)
        decisions = [decode_result(entry.id.ms, entry.id.seq, entry.fields) for entry in entries]
        self.repository.save([decision.record for decision in decisions if isinstance(decision, Decoded)])

    @rule(name=names)
    def die_after_claim(self, name: str) -> None:
        GroupConsumer(self.group, name).claim([each.id for each in self.group.pending(count=3)])

    @rule(name=names)
    def resume(self, name: str) -> None:
        drain(self.stream, self.repository, name, drain=False, max_wait_s=0.0, max_deliveries=0)

    @invariant()
    def no_identity_has_two_rows(self) -> None:
        if hasattr(self, "repository"):
            assert self.repository.count() <= len(self.published)

    def teardown(self) -> None:
        if hasattr(self, "repository"):
            time.sleep(0.01)
            drain(self.stream, self.repository, "last", claim_idle_s=0.001, max_deliveries=0)
            assert self.group.summary().total == 0
            assert self.repository.count() == len(self.published)
            assert len(letters(self.stream)) == self.bad
            self.repository.close()
            self.folder.cleanup()


ConsumerMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestConsumerMachine = ConsumerMachine.TestCase


def test_the_log_never_says_that_the_next_try_is_in_no_time() -> None:
    shown = [shown_wait(seconds) for seconds in (0.0, 0.049, 0.051, 0.1, 29.96)]
    assert shown == ["at once", "at once", "in 0.1 s", "in 0.1 s", "in 30.0 s"]
