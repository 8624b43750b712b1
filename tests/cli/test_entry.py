"""The installed command as a process: what it loads, how fast it answers, and how it ends when its reader is gone."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from devicevault_cli import __version__

DVCTL = Path(sys.executable).with_name("dvctl")

LOADED = """
import sys
from devicevault_cli.cli.app import run
code = run({words!r})
print(code, *sorted(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)
"""
HEAVY = [
    "pydantic",
    "rich",
    "redis",
    "sqlalchemy",
    "psycopg",
    "pymysql",
    "yaml",
    "fakeredis",
    "django",
    "jinja2",
    "orjson",
]


def loaded(*words: str, heavy: list[str] = HEAVY, **environ: str) -> tuple[str, ...]:
    """The exit code, and which of the heavy libraries a command line has loaded."""
    program = LOADED.format(words=list(words), heavy=heavy)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environ, check=True)
    return tuple(done.stderr.splitlines()[-1].split())


def test_the_version_is_answered_without_typer() -> None:
    program = "import sys; sys.argv[1:] = ['--version']; from devicevault_cli.__main__ import main; main()"
    program += "; print([name for name in ('typer', 'json', 'dataclasses') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"dvctl {__version__}\n[]\n"


def test_a_command_loads_only_what_it_uses(redis_url: str, sqlite_url: str) -> None:
    redis = ["--redis-url", redis_url, "-o", "json"]
    database = ["--database-url", sqlite_url, "-o", "json"]
    assert set(loaded("config", "-o", "json")) <= {"0"}
    assert set(loaded("config")) <= {"0", "rich"}
    assert set(loaded("pending", *redis)) <= {"0", "redis"}
    assert set(loaded("status", *redis)) <= {"0", "redis"}
    assert set(loaded("db", "index", "--dry-run", *database)) <= {"0", "sqlalchemy"}


def test_version(dvctl: object) -> None:
    for command in ([DVCTL], [sys.executable, "-m", "devicevault_cli"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == (f"dvctl {__version__}\n", "")


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["config"], ["config", "-o", "jsonl"]])
def test_a_reader_that_is_gone_is_no_error(words: list[str]) -> None:
    with subprocess.Popen([DVCTL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.stderr is not None
        said = running.stderr.read()
        assert running.wait(120) in {0, 141}
        assert said == b""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_process_without_streams_does_its_work(redis_url: str, closed: str) -> None:
    environ = {"DEVICEVAULT_REDIS_URL": redis_url}
    for words in ("--help", "config", "publish"):
        done = subprocess.run(
            ["bash", "-c", f"{DVCTL} {words} {closed}"], env=environ, capture_output=True, check=False
        )
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr


def test_a_follower_ends_with_its_reader(redis_url: str) -> None:
    environ = {"DEVICEVAULT_REDIS_URL": redis_url}
    subprocess.run([DVCTL, "publish", "--count", "500"], env=environ, capture_output=True, check=True)
    following = f"{DVCTL} tail --since 1d -o jsonl | head -n 2 | wc -l; echo ${{PIPESTATUS[0]}}"
    publishing = f"{DVCTL} publish --count 500 >/dev/null; {DVCTL} publish --count 500 >/dev/null"
    script = f"({following}) & {publishing}; wait"
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.split(), done.stderr) == (["2", "141"], "")


def cpu_seconds(*command: str) -> float:
    """What a run takes of the processor: unlike its duration it does not grow with what else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def against_the_yardstick(*command: str) -> float:
    """The least of several runs beside the least of as many imports of Typer, taken in turns."""
    pairs = [(cpu_seconds(*command), cpu_seconds(sys.executable, "-c", "import typer")) for _ in range(5)]
    return min(ours for ours, _ in pairs) / min(theirs for _, theirs in pairs)


def completion(redis_url: str, *words: str) -> list[str]:
    given = {
        "COMP_WORDS": " ".join(["dvctl", *words]),
        "COMP_CWORD": str(len(words)),
        "_DVCTL_COMPLETE": "complete_bash",
        "DEVICEVAULT_REDIS_URL": redis_url,
    }
    return ["env", *(f"{name}={value}" for name, value in given.items()), str(DVCTL)]


@pytest.mark.slow
def test_start_up_against_the_import_of_typer(redis_url: str) -> None:
    """The limits of docs/performance.md, with room for a noisy machine."""
    assert against_the_yardstick(str(DVCTL), "--version") < 1.5
    assert against_the_yardstick(str(DVCTL), "--help") < 5
    assert against_the_yardstick(*completion(redis_url, "pend")) < 4
    assert against_the_yardstick(*completion(redis_url, "pending", "--group", "")) < 8
