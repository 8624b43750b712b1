"""verify by column answers what it answers entry by entry, whatever stands on the stream and in the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from devicevault_cli.columns import SOME
from devicevault_cli.messages import Decoded
from devicevault_cli.operations.verify import scan
from devicevault_cli.operations.verify.classes import ClassifiedEntry, Classifier
from devicevault_cli.operations.verify.compare import Compared
from devicevault_cli.operations.verify.names import Listed
from devicevault_cli.operations.verify.result import VerifyResult
from devicevault_cli.operations.verify.scan import Scope
from devicevault_cli.operations.verify.verify import list_findings, verify
from devicevault_cli.pipelines import RESULTS, STORAGE, Pipeline
from devicevault_cli.repository import open_repository, tables
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import Stream
from tests.support.consuming import GROUP
from tests.support.records import DISTINCT

MS = 1_767_225_600_000
LISTED: tuple[Listed, ...] = ("persisted", "lost", "conflicting", "duplicate_rows")
TIMED = ("elapsed_s", "rate_per_s")
USUAL = {
    b"operation": b"store",
    b"task_id": b"t-1",
    b"task_identifier": b"",
    b"device_id": b"7",
    b"status": b"success",
    b"log": b'["done"]',
    b"initiated_at": b"2025-12-31T23:59:58+00:00",
}
IDENTIFIERS = (*(name.encode() for name in DISTINCT), b"a" * 128, b"x", b"y", b"z")
ODD = (
    *((b"task_identifier", value) for value in (b"", b"\xff", b"a\0b", b"a" * 129)),
    *((b"device_id", value) for value in (b"", b"07", b"x", b"0", b"2147483648", b"4711")),
    *((b"status", value) for value in (b"", b"failure", b"Success", b"success ", b"s" * 17, "partiël".encode())),
    *((b"log", value) for value in (b"", b"{", b"{}", b'["\\ud800"]', b"\xff")),
    *((b"initiated_at", value) for value in (b"", b"yesterday")),
    *((b"operation", value) for value in (b"", b"restore")),
    *((b"_dvctl.id", value) for value in (b"5-5", b"x")),
    (b"extra", b"1"),
)
Change = dict[str, Any]
ROWS: tuple[tuple[Change, ...], ...] = (
    (),
    ({"status": "failure"},),
    ({"status": "Success"},),
    ({"status": "success "},),
    ({"device_id": 9},),
    ({}, {}),
    ({}, {"status": "failure"}),
    ({"device_id": 9}, {}),
    ({"log": "[1]", "task_id": "t-2"},),
)
"""The rows of an entry, each as it differs from its record."""


class Situation(NamedTuple):
    """Messages, the rows of each, and what the group has done."""

    messages: list[dict[bytes, bytes]]
    rows: list[tuple[Change, ...]]
    delivered: int
    kept: list[str]


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Mostly usual messages that have their row."""
    length = draw(st.integers(0, 45))
    often_odd, often_lost = draw(st.booleans()), draw(st.booleans())
    messages, rows = [], []
    for number in range(length):
        name = draw(st.sampled_from(IDENTIFIERS)) if draw(st.integers(0, 5)) == 0 else b"collect:%d" % number
        message = USUAL | {b"task_identifier": name}
        if draw(st.integers(0, 5 if often_odd else 40)) == 0:
            field, value = draw(st.sampled_from(ODD))
            message[field] = value
        messages.append(message)
        rows.append(draw(st.sampled_from(ROWS)) if draw(st.integers(0, 3 if often_lost else 20)) == 0 else ({},))
    delivered = draw(st.sampled_from((length, length, length // 2, 0)))
    ends = ("acknowledged", "acknowledged", "acknowledged", "pending", "dead", "discarded", "gone")
    return Situation(messages, rows, delivered, [draw(st.sampled_from(ends)) for _ in range(delivered)])


def each_odd_value() -> Situation:
    """Each in a part of the page of its own, with the ends a group can give it; and each kind of rows."""
    ends = ("dead", "pending", "discarded", "acknowledged")
    odd = [
        USUAL | {b"task_identifier": b"odd:%d" % number} | {field: value} for number, (field, value) in enumerate(ODD)
    ]
    messages, rows, kept = [], [], []
    for number, message in enumerate(odd):
        messages += [message, *(USUAL | {b"task_identifier": b"usual:%d:%d" % (number, n)} for n in range(SOME - 1))]
        rows += [({},), *[ROWS[number % len(ROWS)]], *[({},)] * (SOME - 2)]
        kept += [ends[number % len(ends)], *["acknowledged"] * (SOME - 1)]
    return Situation(messages, rows, len(messages), kept)


class Staged(NamedTuple):
    """A situation, made on real servers."""

    group: Group
    pipeline: Pipeline
    repository: Repository


def stage(client: Any, key: str, pipeline: Pipeline, repository: Repository, situation: Situation) -> Staged:
    repository.check(writing=False)  # rows under ids of our own are behind the sequence
    if last := repository.last_id():
        repository.remove(repository.ids_after(0, last))
    stream = Stream(client, key)
    group = Group(stream, GROUP)
    group.create()
    rows: list[dict[str, Any]] = []
    for number, (message, changes) in enumerate(zip(situation.messages, situation.rows, strict=True)):
        entry = EntryId(MS + number * 40_000, number)
        stream.call("XADD", key, str(entry), *(part for pair in message.items() for part in pair))
        decided = pipeline.decode_entry(stream.get([entry])[entry], repository.device_id_max)
        if not isinstance(decided, Decoded):  # such messages may have a row too
            usual = {b"log": b"[]", b"operation": b"store"}
            decided = pipeline.decode(*entry, message | usual, repository.device_id_max)
        record = decided.record if isinstance(decided, Decoded) else None
        if record is not None and record.device_id <= 50:
            rows += [record._asdict() | change for change in changes]
    repository.put_back([{"id": row_id} | row for row_id, row in enumerate(rows, 1)])
    consumer = GroupConsumer(group, "worker")
    delivered = consumer.read_new(situation.delivered).ids if situation.delivered else []
    for entry, end in zip(delivered, situation.kept, strict=True):
        if end == "dead":
            consumer.dead_letter(entry, entry, "max-deliveries", "")
        elif end == "discarded":
            consumer.discard(entry, "")
        elif end == "acknowledged":
            group.acknowledge([entry])
        elif end == "gone":
            stream.call("XDEL", key, str(entry))
    return Staged(group, pipeline, repository)


def answers(staged: Staged) -> dict[str, Any]:
    """All that verify can say but how long it took."""
    classifier = Classifier(*staged)
    entries = [entry for page in scan.scan(classifier, Scope()) for entry in page.entries]
    said: dict[str, Any] = {"entries": [(entry, entry.conflicts) for entry in without_matching_rows(entries)]}
    scopes = {"whole": Scope(), "part": Scope(EntryId(MS + 400_000, 0), EntryId(MS + 1_200_000, 0), rate=1e9)}
    if staged.pipeline is RESULTS:
        scopes["followed"] = Scope(grace_ms=60_000)
    for name, scope in scopes.items():
        found = verify(*staged, scope).to_dict()
        said[name] = {key: value for key, value in found.items() if key not in TIMED}
    for wanted in LISTED:
        said[wanted] = [found.to_dict() for found in list_findings(*staged, Scope(), wanted, VerifyResult())]
    return said


def without_matching_rows(entries: list[ClassifiedEntry]) -> list[ClassifiedEntry]:
    """Rows that agree with their entry are only counted."""
    return [entry if entry.conflicts else entry._replace(rows=()) for entry in entries]


def one_by_one(page: Any, *_: object) -> Callable[[], Compared]:
    """In the place of `ask`: no entry matches."""
    return lambda: Compared(page, [False] * len(page))


@pytest.fixture(params=[RESULTS, STORAGE], ids=["results", "storage"])
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    found: Pipeline = request.param
    return found


@pytest.fixture
def repository(database_url: str, pipeline: Pipeline) -> Iterator[Repository]:
    spec = tables.RESULTS if pipeline is RESULTS else tables.STORAGE
    with closing(open_repository(database_url, spec)) as opened:
        yield opened


def test_by_column_as_one_by_one(pipeline: Pipeline, stream: Stream, repository: Repository) -> None:
    keys = count()
    matched = []

    # Not made smaller after a failure: on servers that takes minutes.
    @settings(
        max_examples=5,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(situations())
    @example(each_odd_value())
    def compare(situation: Situation) -> None:
        key = f"{stream.key}:{next(keys)}"
        staged = stage(stream.client, key, pipeline, repository, situation)
        found = answers(staged)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scan, "ask", one_by_one)
            expected = answers(staged)
        assert found == expected
        matched.append(sum(page.matched for page in scan.scan(Classifier(*staged), Scope())))

    compare()
    assert sum(matched) > 50, "else nothing was compared"
