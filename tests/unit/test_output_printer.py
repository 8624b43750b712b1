"""The printer: data to stdout in each format, everything else to stderr, questions only to a person."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from devicevault_cli.errors import NotConfirmed
from devicevault_cli.output.printer import Printer
from devicevault_cli.output.terminal import Terminal

ANSWER = {
    "group": "devicevault",
    "total": 2,
    "entries": [{"id": "1-0", "idle_ms": 90_000, "note": "=1+1"}, {"id": "2-0", "idle_ms": 5, "note": None}],
}
COLUMNS = {"id": 6, "note": 8}


def printer(output: str, *, tty: bool = False, typed: str = "", **environ: str) -> Printer:
    terminal = Terminal(
        io.StringIO(typed),
        io.StringIO(),
        io.StringIO(),
        environ,
        stdin_is_tty=tty,
        stdout_is_tty=tty,
        stderr_is_tty=tty,
    )
    return Printer(terminal, output)


def said(by: Printer) -> tuple[str, str]:
    out, err = by.terminal.stdout, by.terminal.stderr
    assert isinstance(out, io.StringIO)
    assert isinstance(err, io.StringIO)
    return out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "table",
            "group  devicevault\ntotal  2\n\nENTRIES\nID     IDLE  NOTE\n1-0  1m 30s  =1+1\n2-0     5ms  -\n",
        ),
        ("json", json.dumps(ANSWER) + "\n"),
        ("jsonl", "".join(json.dumps(row) + "\n" for row in ANSWER["entries"])),  # type: ignore[attr-defined]
        ("csv", "id,idle_ms,note\n1-0,90000,'=1+1\n2-0,5,\n"),
        ("ids", "1-0\n2-0\n"),
    ],
)
def test_an_answer_in_every_format(output: str, expected: str) -> None:
    by = printer(output)
    by.answer(ANSWER, "entries")
    assert said(by) == (expected, "")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("table", "ID      NOTE\n1-0     =1+1\n2-0     -\n"),
        ("json", json.dumps({"entries": ANSWER["entries"]}) + "\n"),
        ("jsonl", "".join(json.dumps(row) + "\n" for row in ANSWER["entries"])),  # type: ignore[attr-defined]
        ("csv", "id,note\n1-0,'=1+1\n2-0,\n"),
        ("ids", "1-0\n2-0\n"),
    ],
)
def test_a_stream_of_rows_in_every_format(output: str, expected: str) -> None:
    by = printer(output)
    by.stream(ANSWER["entries"], COLUMNS)  # type: ignore[arg-type]
    assert said(by) == (expected, "")


@pytest.mark.parametrize("output", ["table", "jsonl", "csv", "ids"])
def test_a_follower_sees_each_row_at_once(output: str) -> None:
    by = printer(output)
    flushed: list[str] = []
    by.terminal.stdout.flush = lambda: flushed.append(said(by)[0])  # type: ignore[method-assign]

    def rows() -> Iterator[dict[str, Any]]:
        yield {"id": "1-0", "note": "a"}
        assert "1-0" in flushed[-1]
        yield {"id": "2-0", "note": "b"}

    by.stream(rows(), COLUMNS)
    assert "2-0" in flushed[-1]


def test_an_interrupted_stream_is_still_one_json_document() -> None:
    by = printer("json")

    def rows() -> Iterator[dict[str, Any]]:
        yield {"id": "1-0"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        by.stream(rows(), COLUMNS)
    assert json.loads(said(by)[0]) == {"entries": [{"id": "1-0"}]}


def test_lists_of_ids_are_rows_too() -> None:
    by = printer("jsonl")
    by.answer({"claimed": ["1-0", "2-0"]}, "claimed")
    assert said(by)[0] == '{"id": "1-0"}\n{"id": "2-0"}\n'


def test_a_nested_mapping_has_a_line_for_each_value_and_an_empty_list_says_so() -> None:
    by = printer("table")
    by.answer({"stream": {"key": "device:results", "bytes": 2048}, "entries": []}, "entries")
    assert said(by)[0] == "stream key    device:results\nstream bytes  2.0 KiB\n\nENTRIES: none\n"


def test_a_command_may_tell_people_in_its_own_lines_which_are_inert_too() -> None:
    by = printer("table")
    by.answer({"a": 1}, lines=lambda answer: [f"a is {answer['a']}", "\x1b[31m"])
    assert said(by)[0] == "a is 1\n\\x1b[31m\n"


@pytest.mark.parametrize("output", ["table", "json", "jsonl", "csv", "ids"])
def test_hostile_text_is_inert_in_every_format(output: str) -> None:
    by = printer(output)
    by.answer({"entries": [{"id": "\x1b]52;c;x\x07\u202e", "b\x9bx": {"c\x1b": ["\x7f"]}}]}, "entries")
    by.note("\x1b[2J")
    by.warn("\x1b[2J")
    by.error("\x1b[2J", "\x9b")
    assert not set("".join(said(by))) & set("\x1b\x07\x7f\x9b\u202e")


def test_words_go_to_stderr() -> None:
    by = printer("json")
    by.note("one", "two")
    by.facts({"would_insert": 3, "age_ms": 60_000})
    by.table([{"id": "1-0"}])
    by.warn("careful")
    by.error("no", "try this")
    assert said(by) == (
        "",
        "one\ntwo\n  would insert  3\n  age           1m\nID\n1-0\nwarning: careful\nerror: no\nhint: try this\n",
    )


def test_colour_only_on_a_terminal_that_wants_it() -> None:
    for by, coloured in [
        (printer("table", tty=True), True),
        (printer("table", tty=True, NO_COLOR="1"), False),
        (printer("table", tty=True, TERM="dumb"), False),
        (printer("table"), False),
    ]:
        by.error("no")
        by.answer({"entries": [{"id": "1-0"}]}, "entries")
        assert ("\x1b[" in said(by)[0], "\x1b[" in said(by)[1]) == (coloured, coloured)


@pytest.mark.parametrize("typed", ["y\n", "YES\n", " y \n"])
def test_a_person_can_say_yes(typed: str) -> None:
    by = printer("table", tty=True, typed=typed)
    by.confirm("Move the group?")
    assert said(by) == ("", "Move the group? [y/N] ")


@pytest.mark.parametrize("typed", ["n\n", "\n", "", "yeah\n"])
def test_anything_else_is_no(typed: str) -> None:
    with pytest.raises(NotConfirmed):
        printer("table", tty=True, typed=typed).confirm("Move the group?")


def test_nobody_is_asked_where_nobody_is() -> None:
    with pytest.raises(NotConfirmed) as caught:
        printer("table", typed="y\n").confirm("Move the group?")
    assert "--yes" in str(caught.value.hint)


def test_a_name_must_be_typed_exactly() -> None:
    printer("table", tty=True, typed="devicevault\n").confirm_name("Delete it?", "devicevault")
    with pytest.raises(NotConfirmed):
        printer("table", tty=True, typed="devicevaul\n").confirm_name("Delete it?", "devicevault")


def test_progress_moves_on_a_terminal_and_is_silent_elsewhere() -> None:
    for tty in (True, False):
        by = printer("table", tty=tty)
        with by.progress("reading", 100) as at:
            at(50)
            by.note("half")
        shown = said(by)[1]
        assert ("50/100" in shown) is tty
        assert shown.rpartition("\x1b[2K")[2] == "half\n"


def test_a_stream_that_is_no_utf_8_gets_ascii_json() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="latin-1")
    by = Printer(Terminal(io.StringIO(), out, io.StringIO(), {}), "json")
    by.answer({"a": "漢\udc80"})
    out.flush()
    assert json.loads(raw.getvalue()) == {"a": "漢\udc80"}
