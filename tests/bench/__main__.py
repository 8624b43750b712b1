"""Measure everything and print one table: `python -m tests.bench [-o json] [--large] [--only NAME]`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec

from tests.bench import backlog, commands, dispatch, large_messages, latency, many_streams, throughput, verify
from tests.bench.ground import Ground, started
from tests.bench.load import Others
from tests.bench.measure import Figure, load, machine

LARGEST = 5_000_000


def main() -> None:
    """Parse, measure, print; what is measured right now goes to stderr."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--large", action="store_true", help="also beside a table of five million rows")
    names = (
        "commands",
        "latency",
        "throughput",
        "large-messages",
        "many-streams",
        "dispatch",
        "verify",
        "backlog",
    )
    parser.add_argument("--only", choices=names)
    options = parser.parse_args()
    if options.only in (None, "throughput") and find_spec("faststream") is None:
        parser.error("the batch library is not installed; `make bench` does that, or: pip install -e '.[bench]'")
    parts: dict[str, Callable[[Ground], Iterator[Figure]]] = {
        "commands": commands.figures,
        "latency": latency.figures,
        "throughput": throughput.figures,
        "large-messages": large_messages.figures,
        "many-streams": many_streams.figures,
        "dispatch": dispatch.figures,
        "verify": verify.figures,
        "backlog": lambda ground: backlog.figures(ground, LARGEST if options.large else 0),
    }
    place, begun, others = machine(), time.monotonic(), Others()
    found: list[Figure] = []
    with started() as ground:
        place |= ground.versions()
        for part in [options.only] if options.only else parts:
            for figure in parts[part](ground):
                found.append(replace(figure, others=round(others.since_last(), 2)))
                print(line(found[-1]), file=sys.stderr, flush=True)
    place["minutes"] = round((time.monotonic() - begun) / 60, 1)
    place["load_at_end"] = load()
    place["processors_of_others"] = round(others.in_all(), 2)
    if options.output == "json":
        print(json.dumps({"machine": place, "figures": [asdict(figure) for figure in found]}, indent=2))
    else:
        print(table(place, found))


def table(place: dict[str, object], found: list[Figure]) -> str:
    """Markdown, as it stands in docs/performance.md."""
    head = [
        "| what | median | against | its median | ratio | target | met | CPU a message, us | others |",
        "|---|---:|---|---:|---:|---|---|---|---:|",
    ]
    where = ", ".join(f"{name} {value}" for name, value in place.items())
    return "\n".join([f"Measured on: {where}", "", *head, *map(line, found)])


def line(figure: Figure) -> str:
    """One row of the table."""
    theirs = "" if figure.yardstick is None else amount(figure.yardstick)
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    met = {True: "yes", False: "**no**", None: ""}[figure.met]
    ours = f"{amount(figure.value)} {figure.unit}"
    cost = ", ".join(f"{name} {used:.1f}" for name, used in figure.cpu_us.items())
    others = "" if figure.others is None else f"{figure.others:.2f}"
    about = f"| {figure.name} | {ours} | {figure.against} | {theirs} | {ratio} | {figure.target} | {met} "
    return f"{about}| {cost} | {others} |"


def amount(value: float) -> str:
    """Whole numbers from a hundred on."""
    return f"{value:,.{0 if value >= 100 else 1}f}"


if __name__ == "__main__":
    main()
