"""Files that dvctl reads back: whatever stands in them is read or refused, also if the checksum is valid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devicevault_cli.errors import BadConfig, Damaged, DvctlError, Usage
from devicevault_cli.operations.database import removed_rows
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.operations.entries.export import export_entries
from devicevault_cli.operations.entries.message_files import parse_line
from devicevault_cli.operations.groups.snapshots import KIND, VERSION, read_snapshot
from devicevault_cli.operations.snapshots.show import show_snapshot
from devicevault_cli.output.escapes import to_json
from devicevault_cli.output.snapshot_page import snapshot_lines
from devicevault_cli.output.view import View
from devicevault_cli.repository.tables import RESULTS
from devicevault_cli.settings import load
from devicevault_cli.streams.model import Entry, EntryId
from tests.support.recovering import read_messages

HEAD = {"dvctl": KIND, "version": VERSION, "stream": "s", "group": "g", "position": "1-0", "entries_read": None}
LINES: list[Any] = [HEAD, {"consumer": "c"}, {"entry": ["1-0", 0, 5, 1]}]

scalar = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["1-0", KIND]),
)
name = st.sampled_from([*HEAD, "consumer", "entry", "id", "fields", "_base64", "other", "\udcff", "\ud800", "é"])
value: st.SearchStrategy[Any] = st.recursive(
    scalar,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(name, inner, max_size=4)),
    max_leaves=10,
)
one_changed = st.tuples(st.sampled_from([0, 1, 2]), name, value).map(
    lambda change: [line | {change[1]: change[2]} if change[0] == at else line for at, line in enumerate(LINES)]
)
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def with_checksum(path: Path, content: bytes) -> Path:
    """A file with a valid checksum, whatever it contains."""
    digest = hashlib.sha256(content).hexdigest()
    path.write_bytes(content + json.dumps({"_dvctl.sha256": digest, "lines": "1"}).encode() + b"\n")
    return path


def encoded(lines: list[Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def read_whole(path: Path) -> None:
    list(read_snapshot(path).pending_pages())


@SLOW
@given(lines=st.one_of(one_changed, st.lists(value, max_size=4), st.lists(value).map(lambda more: [*LINES, *more])))
def test_a_sealed_snapshot_of_anything_is_read_or_refused(tmp_path: Path, lines: list[Any]) -> None:
    with suppress(Damaged, Usage):
        read_whole(with_checksum(tmp_path / "snapshot", encoded(lines)))


ROWS_HEAD = {"dvctl": removed_rows.KIND, "version": removed_rows.VERSION, "table": RESULTS.name, "database": "d"}
COLUMNS = ("id", *RESULTS.columns)
cell = st.one_of(st.none(), st.integers(-(2**70), 2**70), st.text(max_size=4))
row = st.dictionaries(st.sampled_from(COLUMNS), cell, max_size=3).map(
    lambda cells: {"row": dict.fromkeys(COLUMNS, 1) | cells}
)
rows_of_anything = st.builds(
    lambda changes, rows: [ROWS_HEAD | changes, *rows],
    st.dictionaries(st.sampled_from([*ROWS_HEAD, "at", "command"]), value, max_size=2),
    st.lists(row, max_size=2),
)


@SLOW
@given(lines=st.one_of(one_changed, rows_of_anything))
def test_a_sealed_file_of_anything_is_shown_or_refused(tmp_path: Path, lines: list[Any]) -> None:
    path = with_checksum(tmp_path / "snapshot", encoded(lines))
    with suppress(Damaged, Usage):
        answer = show_snapshot(path, None, 2).to_dict()
        assert json.loads(to_json(answer))["whole"] is True
        assert list(snapshot_lines(answer, View(140, coloured=False)))


@SLOW
@given(content=st.binary(max_size=80))
def test_sealed_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises((Damaged, Usage)):
        read_whole(with_checksum(tmp_path / "snapshot", content + b"\n"))


def test_a_whole_snapshot_is_read(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    assert checksummed.write(path, LINES) == 3
    assert [held.consumer for page in read_snapshot(path).pending_pages() for held in page] == ["c"]


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[:-20],
    "a line less": lambda content: b"\n".join(content.split(b"\n")[1:]),
    "a byte more": lambda content: content.replace(b"1-0", b"1-00", 1),
    "empty": lambda content: b"",
    "no checksum": lambda content: content[: content.index(b'{"_dvctl')],
    "two checksums": lambda content: content + content[content.index(b'{"_dvctl') :],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_was_cut_or_edited_is_damaged(tmp_path: Path, change: str) -> None:
    path = tmp_path / "snapshot"
    checksummed.write(path, LINES)
    path.write_bytes(CHANGES[change](path.read_bytes()))
    with pytest.raises(Damaged):
        read_whole(path)


@SLOW
@given(line=st.one_of(st.binary(max_size=60), value.map(lambda one: json.dumps(one).encode())))
def test_a_line_of_a_file_is_a_message_or_refused(line: bytes) -> None:
    with suppress(DvctlError):
        message = parse_line(line, "here")
        assert all(isinstance(part, bytes) for pair in message.items() for part in pair)


@SLOW
@given(fields=st.dictionaries(st.binary(max_size=8), st.binary(max_size=8), min_size=1, max_size=4))
def test_what_was_exported_reads_back_byte_for_byte(tmp_path: Path, fields: dict[bytes, bytes]) -> None:
    path = tmp_path / "export.jsonl"
    export_entries(path, [[Entry(EntryId(5, 1), fields)]], reveal=True, replace=True)
    assert read_messages(path) == [{b"_dvctl.id": b"5-1"} | fields]
    assert len(list(checksummed.read(path))) == 1


@SLOW
@given(text=st.one_of(st.binary(max_size=60), value.map(lambda one: json.dumps(one).encode())))
def test_settings_files_are_read_or_refused(tmp_path: Path, text: bytes) -> None:
    config, profiles = tmp_path / "config.yaml", tmp_path / "dvctl" / "config.toml"
    profiles.parent.mkdir(exist_ok=True)
    config.write_bytes(b"redis: " + text)
    profiles.write_bytes(b"[p]\nredis_url = " + text)
    for environ in ({"DEVICEVAULT_CONFIG": str(config)}, {"DVCTL_PROFILE": "p", "XDG_CONFIG_HOME": str(tmp_path)}):
        with suppress(BadConfig):
            load({}, environ)
