"""Command lines: read as GNU tools read them, refused in one sentence."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest

from devicevault_cli.cli.arguments import Argument, Option, parameters_of, parse
from devicevault_cli.errors import Usage
from devicevault_cli.times import parse_duration


def example(  # noqa: PLR0917 - one option of each kind
    run: None,
    ids: Annotated[list[str] | None, Argument("ID", "Ids.")] = None,
    count: Annotated[int, Option("-n/--count", "Count.", least=1)] = 10,
    idle: Annotated[int | None, Option("--idle", "Idle.", "DURATION", parse_duration)] = None,
    to: Annotated[str | None, Option("--to", "Target.")] = None,
    sets: Annotated[list[str] | None, Option("--set", "Field.")] = None,
    kind: Annotated[Literal["a", "b"], Option("--kind", "Kind.")] = "a",
    rate: Annotated[float | None, Option("--rate", "Rate.", least=0.1)] = None,
    quiet: Annotated[bool, Option("-q/--quiet", "Quiet.")] = False,
) -> None:
    """An example."""


def needing(run: None, file: Annotated[str, Argument("FILE", "A file.")]) -> None:
    """Needs an argument."""


def read(line: str) -> dict[str, Any]:
    return parse(parameters_of(example), line.split())


def test_without_words_the_defaults_stand() -> None:
    assert read("") == {
        "ids": None,
        "count": 10,
        "idle": None,
        "to": None,
        "sets": None,
        "kind": "a",
        "rate": None,
        "quiet": False,
    }


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("--count 5", "count", 5),
        ("--count=5", "count", 5),
        ("-n 5", "count", 5),
        ("-n5", "count", 5),
        ("-qn5", "count", 5),
        ("--count 5 --count 6", "count", 6),
        ("--idle 1m30s", "idle", 90_000),
        ("--to -2h", "to", "-2h"),
        ("--to -", "to", "-"),
        ("--set a=1 --set b=2", "sets", ["a=1", "b=2"]),
        ("--kind b", "kind", "b"),
        ("-q", "quiet", True),
        ("1-0 -q 2-0", "ids", ["1-0", "2-0"]),
        ("-- -q", "ids", ["-q"]),
    ],
)
def test_every_way_to_write_it(line: str, name: str, value: object) -> None:
    assert read(line)[name] == value


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--cuont 5", "--cuont"),
        ("--count five", "--count: 'five' is not a whole number"),
        ("--count 0", "--count: 0 is less than 1"),
        ("--rate nan", "--rate: 'nan' is not a number"),
        ("--idle soon", "--idle: not a duration"),
        ("--kind c", "--kind: 'c' is not one of: a, b"),
        ("--to", "--to"),
        ("--quiet=yes", "--quiet"),
        ("--coun 5", "--coun"),
    ],
)
def test_what_cannot_be_read_is_told(line: str, told: str) -> None:
    with pytest.raises(Usage) as caught:
        read(line)
    assert told in str(caught.value)


def test_a_missing_or_superfluous_argument_is_told() -> None:
    parameters = parameters_of(needing)
    assert parse(parameters, ["x"]) == {"file": "x"}
    with pytest.raises(Usage, match="missing argument FILE"):
        parse(parameters, [])
    with pytest.raises(Usage, match="y"):
        parse(parameters, ["x", "y"])
