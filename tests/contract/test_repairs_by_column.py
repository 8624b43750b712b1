"""`dlq retry` and `replay` by column do what they do letter by letter: same answer, rows, letters left and discards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import pytest
from fakeredis import FakeRedis
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st

from devicevault_cli import columns
from devicevault_cli.operations.changes.change import Change
from devicevault_cli.operations.dead_letters import attempts
from devicevault_cli.operations.dead_letters.attempts import DecodedLetters, LetterDecoder
from devicevault_cli.operations.dead_letters.retry import plan_retry
from devicevault_cli.operations.dead_letters.select import LetterFilter
from devicevault_cli.operations.replay import replay
from devicevault_cli.operations.replay.replay import ReplayOptions, plan_replay
from devicevault_cli.operations.replay.selection import Selection, from_stream
from devicevault_cli.pipelines import RESULTS, STORAGE, Pipeline
from devicevault_cli.record_columns import RecordColumns
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import keys, letters, scripts
from devicevault_cli.streams.connect import connect
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.letters import DeadLetter, LetterPage, pack
from devicevault_cli.streams.model import Entry, EntryId, pairs_of
from devicevault_cli.streams.page import FEW, page
from devicevault_cli.streams.stream import Stream
from tests.support.recovering import apply, table_at
from tests.unit.test_columns import MS, USUAL, messages

GROUP = "devicevault"
OWN = {
    "id": (b"5-5", b"007-1", b"5", b"x", b"", b"18446744073709551615-0", b"18446744073709551616-0", b"9-1\n9-2"),
    "reason": (b"max-deliveries", b"database-rejected", b"unknown-device", b"\xff", b""),
    "detail": (b"no device has the id 99", b"\xff"),
    "group": (b"devicevault-storage", b"other", b"\xff", b""),
    "consumer": (b"me", b"\xff"),
    "deliveries": (b"10", b"x"),
    "at": (b"2026-01-01T00:00:00.000Z",),
    "attempts": (b"0", b"1", b"3", b"x", b""),
}
DAMAGED = b"3:ab,"
ORIGINAL = b"_dvctl.original.device_id"
CHANGING = (b"_dvctl.at",)
"""What the time of day writes into a letter."""

SAME = st.sampled_from(list(USUAL))
Letter = dict[bytes, bytes]


def usual(number: int, **fields: bytes) -> Letter:
    """A letter as a consumer writes it; its message has an identity of its own."""
    message = (
        USUAL | {b"task_identifier": b"job-%d" % number} | {name.encode(): value for name, value in fields.items()}
    )
    return message | own(number)


def own(number: int) -> Letter:
    """The fields that a consumer adds to a message."""
    values = (b"%d-%d" % (MS, number), b"unknown-device", b"", GROUP.encode(), b"me", b"1", OWN["at"][0], b"0")
    return {f"_dvctl.{name}".encode(): value for name, value in zip(OWN, values, strict=True)}


def odd_message(draw: st.DrawFn, number: int) -> list[bytes]:
    return [*draw(messages(USUAL | {b"task_identifier": b"job-%d" % number})), *parts(own(number))]


def odd_own_field(draw: st.DrawFn, number: int) -> list[bytes]:
    name = draw(st.sampled_from(list(OWN)))
    return parts(usual(number) | {f"_dvctl.{name}".encode(): draw(st.sampled_from(OWN[name]))})


def repaired_before(draw: st.DrawFn, number: int) -> list[bytes]:
    original, tried = draw(st.sampled_from((b"7", b"8", b"x"))), draw(st.sampled_from((b"0", b"1")))
    return parts(usual(number) | {ORIGINAL: original, b"_dvctl.attempts": tried})


def packed(draw: st.DrawFn, number: int) -> list[bytes]:
    message = USUAL | {b"task_identifier": b"job-%d" % number}
    return parts({b"_dvctl.packed": draw(st.sampled_from((pack(parts(message)), DAMAGED)))} | own(number))


def rewritten(draw: st.DrawFn, number: int) -> list[bytes]:
    """As a retry that failed leaves it."""
    letter = usual(number)
    return parts({name: letter[name] for name in letter if name != b"_dvctl.reason"} | {b"_dvctl.reason": b"x"})


def of_the_same_message(draw: st.DrawFn, number: int) -> list[bytes]:
    return parts(usual(number) | {b"task_identifier": b"job-0"})


def with_a_repeated_field(draw: st.DrawFn, number: int) -> list[bytes]:
    return [*parts(usual(number)), b"device_id", b"7"]


def of_somebody_else(draw: st.DrawFn, number: int) -> list[bytes]:
    return [b"hello", b"world"]


KINDS = (
    *(odd_message, odd_own_field, repaired_before, packed, rewritten, of_the_same_message, with_a_repeated_field),
    of_somebody_else,
)


@st.composite
def odd_letters(draw: st.DrawFn) -> list[list[bytes]]:
    """Letters, most of them usual: the names and values of each."""
    odd = draw(st.sampled_from((0, 5, 30)))
    same = {name.decode(): draw(st.sampled_from((b"", b"7", b"x"))) for name in draw(st.sets(SAME, max_size=1))}
    found = []
    for number in range(draw(st.integers(FEW - 2, 45))):
        if odd and draw(st.integers(0, odd)) == 0:
            found.append(draw(st.sampled_from(KINDS))(draw, number))
        else:
            found.append(parts(usual(number, **same)))
    return found


def parts(fields: Letter) -> list[bytes]:
    return [part for pair in fields.items() for part in pair]


class State(NamedTuple):
    """What a repair left behind; ids of rewritten letters, and times of day, are not compared."""

    answer: dict[str, Any]
    rows: list[dict[str, Any]]
    letters: list[list[tuple[bytes, bytes]]]
    known: dict[bytes, int | None]
    discarded: int


class Bed:
    """A stream with its dead letters, and a table, as they are before each repair."""

    def __init__(self, url: str, table: Repository, pipeline: Pipeline) -> None:
        self.client: Any = connect(url)
        self.table, self.pipeline = table, pipeline
        self.stream = Stream(self.client, pipeline.stream)
        self.dead, self.index = keys.dead(self.stream.key), keys.dead_ids(self.stream.key)

    def clear(self) -> None:
        self.client.delete(self.stream.key, self.dead, self.index, keys.discarded(self.stream.key))
        if ids := self.table.ids_after(0):
            self.table.remove(ids)

    def put_letters(self, found: list[list[bytes]]) -> None:
        """Write the letters; of every seventh the hash names another letter, as if it were a newer one."""
        self.clear()
        for number, parts in enumerate(found):
            self.client.execute_command("XADD", self.dead, f"{MS + 1}-{number}", *parts)
            fields = dict(zip(parts[::2], parts[1::2], strict=True))
            member = b"%b %b" % (fields.get(b"_dvctl.id", b""), fields.get(b"_dvctl.group", b""))
            self.client.hset(self.index, member, f"{MS + 1}-{number}" if number % 7 else "1-1")

    def put_entries(self, found: list[list[bytes]]) -> None:
        self.clear()
        for number, parts in enumerate(found):
            self.client.execute_command("XADD", self.stream.key, f"{MS}-{number + 1}", *parts)

    def state(self, answer: dict[str, Any]) -> State:
        """Numbers of the letters stand for the ids that the hash names."""
        entries = [(entry.id, entry.fields) for entry in self.stream_of_letters()]
        numbers = {str(key).encode(): number for number, (key, _) in enumerate(entries)}
        rows = [{**row, "id": 0} for row in self.table.fetch(self.table.ids_after(0)).values()]
        left = [[pair for pair in pairs_of(fields) if pair[0] not in CHANGING] for _, fields in entries]
        known = {member: numbers.get(key) for member, key in self.client.hgetall(self.index).items()}
        return State(answer, rows, left, known, self.client.zcard(keys.discarded(self.stream.key)))

    def stream_of_letters(self) -> Any:
        return [entry for found in Stream(self.client, self.dead).pages() for entry in found]


@contextmanager
def one_by_one() -> Iterator[None]:
    """No page is decoded by column, and no letter removed without being looked at."""

    def nothing(found: Any, *_: Any) -> Iterator[Any]:
        yield found, None

    def each(found: Any) -> LetterPage:
        return LetterPage([letter for letter in map(letters.read_letter, found) if letter is not None])

    with (
        mock.patch.object(attempts, "decoded_parts", nothing),
        mock.patch.object(replay, "decoded_parts", nothing),
        mock.patch("devicevault_cli.streams.dead_letters.letter_page", each),
    ):
        yield


@pytest.fixture(params=["sqlite_url", "postgres_url"])
def database(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture(params=[RESULTS, STORAGE], ids=["results", "storage"])
def bed(request: pytest.FixtureRequest, redis_url: str, database: str) -> Iterator[Bed]:
    with table_at(database, request.param.table) as table:
        yield Bed(redis_url, table, request.param)


EXAMPLES = settings(
    max_examples=8,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
CHOSEN = (LetterFilter(), LetterFilter(reason="unknown-device"), LetterFilter(reason="\ufffd"), LetterFilter(device=7))


ALIKE: dict[str, list[Letter]] = {
    "usual": [usual(n) for n in range(40)],
    "unknown devices": [usual(n, device_id=b"7" if n % 9 else b"999") for n in range(40)],
    "the same message twice": [usual(n // 2) for n in range(40)],
    "bad logs": [usual(n, log=b"[" if n % 16 < 3 else b"[]") for n in range(45)],
    "two groups": [usual(n) | {b"_dvctl.group": b"other" if n % 3 else GROUP.encode()} for n in range(20)],
    "repaired before": [
        usual(n) | {b"_dvctl.original.task_identifier": b"x", b"_dvctl.attempts": b"1"} for n in range(20)
    ],
    "ids that Redis does not write": [usual(n) | {b"_dvctl.id": b"007-%d" % n} for n in range(20)],
    "an id with a line end": [usual(n) | {b"_dvctl.id": b"7-1\n7-2" if n == 3 else b"7-%d" % n} for n in range(20)],
    "other operations": [usual(n, operation=b"store" if n % 5 else b"prune") for n in range(20)],
    "rewritten": [
        {name: letter[name] for name in sorted(letter)} | {b"_dvctl.attempts": b"2"} for letter in map(usual, range(20))
    ],
}


@pytest.mark.parametrize("kind", ALIKE)
def test_letters_with_the_same_fields_end_as_one_by_one(bed: Bed, kind: str) -> None:
    found = [parts(letter) for letter in ALIKE[kind]]
    by_column = letters.letter_page(page([[b"9-%d" % n, fields] for n, fields in enumerate(found)])).messages
    assert (by_column is None) == ("id" in kind), "else one of the two ways is not tried"
    for group in (GROUP, None):
        assert_same(bed, bed.put_letters, found, partial(retry, bed, group, LetterFilter()))
        left = {fields.get(b"_dvctl.group") for _, fields in bed.stream_of_letters()}
        assert kind != "two groups" or left == ({b"other"} if group else set()), "only letters of the group are retried"


def retry(bed: Bed, group: str | None, chosen: LetterFilter, repairs: Letter | None = None) -> Change[Any]:
    return plan_retry(DeadLetters(bed.stream, group), chosen, bed.pipeline, bed.table, repairs)


@EXAMPLES
@given(found=odd_letters(), chosen=st.sampled_from(CHOSEN), group=st.sampled_from((GROUP, None)), fail=st.booleans())
def test_a_retry_by_column_ends_as_one_by_one(
    bed: Bed, found: list[list[bytes]], chosen: LetterFilter, group: str | None, fail: bool
) -> None:
    assume(not fail or not any(DAMAGED in letter for letter in found))  # that is an error, said elsewhere
    repairs = {b"device_id": b"999"} if fail else {}

    assert_same(bed, bed.put_letters, found, lambda: retry(bed, group, chosen, repairs))


@EXAMPLES
@given(found=odd_letters(), overwrite=st.booleans(), status=st.sampled_from((None, "success")))
@example([parts(usual(n // 2, device_id=b"7" if n % 9 else b"8")) for n in range(40)], True, None)
def test_a_replay_by_column_ends_as_one_by_one(
    bed: Bed, found: list[list[bytes]], overwrite: bool, status: str | None
) -> None:
    """Entries with the field `_dvctl.id` are those of replay --republish."""

    def again() -> Change[Any]:
        source = from_stream(bed.stream, Selection(status=status))
        return plan_replay(source, bed.pipeline, bed.table, ReplayOptions(overwrite=overwrite))

    assert_same(bed, bed.put_entries, found, again)


def assert_same(bed: Bed, put: Callable[[Any], None], found: Any, make: Callable[[], Change[Any]]) -> None:
    put(found)
    with one_by_one():
        expected = bed.state(apply(make))
    put(found)
    assert bed.state(apply(make)) == expected


def test_usual_letters_are_decoded_by_column(table: Repository) -> None:
    """Else nothing here compares anything, and nothing is faster."""
    reply = [[b"%d-0" % (MS + n), parts(usual(n))] for n in range(40)]
    read = letters.letter_page(page(reply))
    decoder = LetterDecoder({}, RESULTS, table)
    (part,) = decoder.tried(read).decoded
    assert isinstance(part, DecodedLetters)
    assert isinstance(part.records, RecordColumns)
    assert [letter._replace(fields={}) for letter in read] == list(part.letters)
    assert list(read) == [letters.read_letter(entry) for entry in page(reply)]
    odd = letters.letter_page(page([*reply, [b"9-0", parts(usual(99) | {ORIGINAL: b"7"})]]))
    assert not any(isinstance(part, DecodedLetters) for part in decoder.tried(odd).decoded)


def test_republished_messages_are_decoded_by_column() -> None:
    message = USUAL | {b"_dvctl.id": b"%d-7" % MS, b"_dvctl.republished": b"1"}
    entries = page([[b"9-%d" % n, [part for pair in message.items() for part in pair]] for n in range(FEW)])
    [(_, records)] = columns.decoded_parts(entries, RESULTS.decode_columns, 9)
    assert records is not None
    assert set(records.column("timestamp")) == {MS * 1000 + 7}
    assert list(columns.first_ids(entries)) == [EntryId(MS, 7)] * FEW


def test_many_letters_are_removed_and_newer_ones_stay_known(each_redis_url: str, stream_key: str) -> None:
    with closing(connect(each_redis_url)) as client:
        assert_removed(Stream(client, stream_key))


def test_many_letters_are_removed_from_an_embedded_redis(stream_key: str) -> None:
    assert_removed(Stream(FakeRedis(), stream_key))


def assert_removed(stream: Stream) -> None:
    """Of a letter that is gone already nothing happens; a member that names a newer letter stays."""
    client: Any = stream.client
    dead, index = keys.dead(stream.key), keys.dead_ids(stream.key)
    count = 2 * scripts.ENTRIES_PER_SCRIPT + 7
    found = [letter for letter in map(read, range(count)) if letter is not None]
    for number, letter in enumerate(found):
        if number != 3:
            client.execute_command("XADD", dead, str(letter.letter_id), "a", "b")
        client.hset(index, keys.member(letter.id, letter.group), str(letter.letter_id) if number != 5 else "99-9")
    of = DeadLetters(stream, GROUP)
    assert of.remove(LetterPage(found[:-2]).keys()) == count - 3
    assert of.drop([(found[-2], "a reason"), (found[-1], None)]) == 2
    assert of.drop([(found[3], "gone before")]) == 0
    assert client.xlen(dead) == 0
    assert client.hgetall(index) == {keys.member(found[5].id, GROUP).encode(): b"99-9"}
    assert of.discarded_ids() == {found[-2].id}


def read(number: int) -> DeadLetter | None:
    return letters.read_letter(Entry(EntryId(MS + 1, number), usual(number)))
