"""How long a command takes, as a whole process: start-up, completion, verify, replay, dead letters."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.ground import Ground
from tests.bench.measure import DVCTL, Figure, dvctl, pairs, program, run
from tests.bench.throughput import COUNT, against, drained

ROOT = Path(__file__).parents[2]
UNKNOWN_DEVICE = 60
COMPLETE = (
    "source completions/dvctl.bash; COMP_LINE='dvctl {0}'; COMP_POINT=${{#COMP_LINE}}; _dvctl; echo ${{COMPREPLY[@]}}"
)


def figures(ground: Ground) -> Iterator[Figure]:
    """Everything, in the order of the report."""
    yield from start_up(ground)
    yield from scans(ground)
    yield from repeats(ground)


def start_up(ground: Ground) -> Iterator[Figure]:
    """Against importing Typer."""
    ground.stream(1000)
    with ground.table() as url:
        for name, most in (("--version", 1.2), ("--help", 1.5), ("pending", 2.5), ("status", 2.5)):
            command = [name, *(["-o", "json"] if most > 2 else [])]
            yield slower(name, partial(milliseconds, command, ground.url, url), most)
        environment = {"PATH": f"{DVCTL.parent}:/usr/bin:/bin", "DEVICEVAULT_REDIS_URL": ground.url}
        shell = run("bash", "-c", "echo", env=environment).wall_s * 1000
        for what, words, most in (("options", "consume --ba", 0.0), ("live ids", "show 1", 3.0)):
            script = f"cd {ROOT}; {COMPLETE.format(words)}"

            def complete(script: str = script) -> float:
                ran = run("bash", "-c", script, env=environment)
                assert ran.said.strip(), script
                return ran.wall_s * 1000

            if most:
                yield slower(f"completion of {what}", complete, most)
            else:
                took = pairs(complete, lambda: shell, 10)[0]
                yield Figure(f"completion of {what}", took, "ms", "empty bash", shell, None, "< 30 ms", took < 30)


def slower(name: str, ours: object, most: float) -> Figure:
    """Milliseconds, and how many times as long as importing Typer."""
    assert callable(ours)
    took, typer, ratio = pairs(ours, lambda: run(sys.executable, "-c", "import typer").wall_s * 1000, 10)
    return Figure(name, took, "ms", "import typer", typer, ratio, f"< {most:g}", ratio < most)


def milliseconds(words: list[str], redis_url: str, database_url: str) -> float:
    return dvctl(*words, redis_url=redis_url, database_url=database_url).wall_s * 1000


def scans(ground: Ground) -> Iterator[Figure]:
    """Verify against reading the stream and nothing else; both as whole processes."""
    ground.stream(COUNT)
    with ground.table() as url:
        drained(ground, url, COUNT)

        def verify() -> float:
            ran = dvctl("verify", "-o", "json", redis_url=ground.url, database_url=url)
            assert ran.said["classes"]["persisted"] == COUNT, ran.said
            return COUNT / ran.wall_s

        ours, scan, ratio = pairs(verify, lambda: COUNT / program("drain", ground.url, "scan").wall_s, 3)
        yield against("verify", ours, "XRANGE", scan, ratio)


def repeats(ground: Ground) -> Iterator[Figure]:
    """Replay and dlq retry against consume: whole processes, as many messages."""

    def consume() -> float:
        ground.stream(COUNT)
        with ground.table() as url:
            return COUNT / drained(ground, url, COUNT).wall_s

    def replay() -> float:
        ground.stream(COUNT)
        with ground.table() as url:
            ran = dvctl("replay", "--since", "-1d", "--yes", "-o", "json", redis_url=ground.url, database_url=url)
        assert ran.said["inserted"] == COUNT, ran.said
        return COUNT / ran.wall_s

    def retry() -> float:
        ground.stream(COUNT, device=UNKNOWN_DEVICE)
        with ground.table() as url:
            dvctl("consume", "--drain", "-o", "json", redis_url=ground.url, database_url=url)
            device = f"({UNKNOWN_DEVICE}, 'late', '192.0.2.60', true)"
            ground.postgres.execute(
                f"INSERT INTO devices_device (id, name, ip_address, enabled) VALUES {device}", database=url
            )
            ran = dvctl("dlq", "retry", "--all", "--yes", "-o", "json", redis_url=ground.url, database_url=url)
        assert ran.said["persisted"] == COUNT, ran.said
        return COUNT / ran.wall_s

    for name, ours in (("replay", replay), ("dlq retry", retry)):
        rate, consumed, ratio = pairs(ours, consume, 3)
        yield against(name, rate, "consume", consumed, ratio, 0.8)
