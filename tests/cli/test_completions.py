"""The completions, typed into the real shells."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from devicevault_cli.cli import complete as module
from devicevault_cli.cli.complete import main as complete
from devicevault_cli.cli.table import GROUPS, TABLE, load
from tests.support.allowance import Allowance
from tests.support.server import WAIT_S
from tests.support.servers import unavailable
from tools.generate import ROOT

FOLDER = ROOT / "completions"
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config"],
}
SETUP = {
    "bash": f"""bind 'set bell-style none'; source {FOLDER}/dvctl.bash
        bind -x '"\\C-o": printf "LINE:%s:END\\n" "$READLINE_LINE"; READLINE_LINE='""",
    "zsh": f"""unsetopt beep; fpath=({FOLDER} $fpath); autoload -Uz compinit; compinit -u -D
        shown() {{ zle -I; print -r -- "LINE:$BUFFER:END"; BUFFER= }}; zle -N shown; bindkey '^O' shown""",
}
"""Control-O prints the line as it stands, and empties it."""

_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\x08")


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, name: str, environ: dict[str, str]) -> None:
        main, side = pty.openpty()
        self._fd = main
        self._process = subprocess.Popen(
            SHELLS[name], stdin=side, stdout=side, stderr=side, env=environ, close_fds=True, start_new_session=True
        )
        os.close(side)
        self._type(f"PS1='> '; {SETUP[name]}; echo REA''DY\n")
        self._until("READY.*> ")

    def completed(self, line: str) -> str:
        """What the line is after the tabulator key, which may begin only one word."""
        # Enter would run it: so the finished line becomes the argument of echo.
        self._type(f"{line}\t\x0f")
        # The prompt afterwards says that the terminal is ready for keys again.
        finished = self._until(r":END\s.*> ").rpartition("LINE:")[2].partition(":END")[0]
        # zsh adds a = that the next space takes away.
        return finished.strip().removesuffix("=")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._fd)

    def _type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def _until(self, pattern: str) -> str:
        seen, allowance = "", Allowance(WAIT_S)
        while not re.search(pattern, plain := _CONTROLS.sub("", seen), re.DOTALL):
            assert not allowance.used_up(), seen
            if select.select([self._fd], [], [], 0.2)[0]:
                with suppress(OSError):
                    seen += os.read(self._fd, 65536).decode(errors="replace")
        return plain


@pytest.fixture
def environ(redis_url: str, tmp_path: Path) -> dict[str, str]:
    """Where a group has a consumer that holds an entry, and a profile stands."""
    client = redis.Redis.from_url(redis_url)
    client.xadd("device:results", {"device_id": "1"}, id="1767225600000-0")
    client.xgroup_create("device:results", "devicevault", "0")
    client.xreadgroup("devicevault", "collector-7", {"device:results": ">"})
    profiles = tmp_path / "dvctl" / "config.toml"
    profiles.parent.mkdir()
    profiles.write_text('[production]\nstream = "device:results"\n')
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TERM": "xterm",
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "DEVICEVAULT_REDIS_URL": redis_url,
    }


def fish_completed(line: str, environ: dict[str, str]) -> str:
    """fish can be asked what it would offer; a lone offer completes the word."""
    script = f"source {FOLDER}/dvctl.fish; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], env=environ, capture_output=True, text=True, check=True
    )
    offered = sorted({each.split("\t")[0] for each in done.stdout.splitlines()})
    if len(offered) != 1:
        return f"{line}: {offered}"
    head, _, word = line.rpartition(" ")
    return f"{head} {offered[0] if not offered[0].startswith('=') else word + offered[0]}"


@pytest.fixture(params=SHELLS)
def completed(request: pytest.FixtureRequest, environ: dict[str, str]) -> Iterator[Callable[[str], str]]:
    """A shell that completes a line."""
    name = request.param
    if shutil.which(name) is None:
        unavailable(f"the shell {name}")
    if name == "fish":
        yield lambda line: fish_completed(line, environ)
        return
    shell = Shell(name, environ)
    yield shell.completed
    shell.close()


LINES = [
    ("dvctl pend", "dvctl pending"),
    ("dvctl reset-g", "dvctl reset-group"),
    ("dvctl dlq ret", "dvctl dlq retry"),
    ("dvctl consumers ret", "dvctl consumers retire"),
    ("dvctl pending --min-i", "dvctl pending --min-idle"),
    ("dvctl pending --min-idle 5m --cou", "dvctl pending --min-idle 5m --count"),
    ("dvctl dlq retry --reas", "dvctl dlq retry --reason"),
    ("dvctl consumers --redis-u", "dvctl consumers --redis-url"),
    ("dvctl status --pipeline sto", "dvctl status --pipeline storage"),
    ("dvctl config --output jsonl", "dvctl config --output jsonl"),
    ("dvctl pending -o tab", "dvctl pending -o table"),
    ("dvctl consume --on-reject dr", "dvctl consume --on-reject drop"),
    ("dvctl pending --group dev", "dvctl pending --group devicevault"),
    ("dvctl pending --consumer coll", "dvctl pending --consumer collector-7"),
    ("dvctl show 17", "dvctl show 1767225600000-0"),
    ("dvctl status --profile pro", "dvctl status --profile production"),
]


def test_the_shell_completes(completed: Callable[[str], str]) -> None:
    for line, wanted in LINES:
        found = [completed(line)]
        # A Redis that does not answer within a second counts as away, so that no shell hangs: on a busy machine again.
        while found[-1] != wanted and len(found) < 5:
            found.append(completed(line))
        assert found[-1] == wanted, found


@pytest.mark.parametrize("name", ["dvctl.bash", "_dvctl", "dvctl.fish"])
def test_every_command_and_option_stands_in_every_script(name: str) -> None:
    script = (FOLDER / name).read_text("utf-8")
    for words in TABLE:
        for parameter in load(words).parameters:
            for option in parameter.names:
                short = option.lstrip("-")
                assert option in script or f"-l {short}" in script or f"-s {short}" in script
    for word in {words.partition(" ")[0] for words in TABLE} | GROUPS:
        assert word in script


def test_no_python_starts_for_commands_and_options(tmp_path: Path) -> None:
    """With a dvctl that fails when it is called, they are completed all the same."""
    trap = tmp_path / "dvctl"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    trap.chmod(0o755)
    script = f"""
        source {FOLDER}/dvctl.bash
        for line in 'dvctl pend' 'dvctl pending --min' 'dvctl pending -o ' 'dvctl dlq '; do
            COMP_LINE=$line COMP_POINT=${{#line}}; _dvctl; echo "${{COMPREPLY[@]}}"
        done"""
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[:3] == ["pending", "--min-idle", "table json jsonl csv ids"]
    assert not (tmp_path / "called").exists()


def test_names_that_a_shell_would_run_or_break_up_are_not_offered(
    redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 60.0)
    client = redis.Redis.from_url(redis_url)
    client.xadd("device:results", {"device_id": "1"})
    for name in ("good", "$(touch /tmp/x)", "a b", "`id`", "*", "-rf", "x;y", "a\x1bb", "'", '"', "~root", "a:b"):
        client.xgroup_create("device:results", name, "0")
    assert complete(["groups", "pending", "--redis-url", redis_url, "--group", ""]) == 0
    assert capsys.readouterr().out.split() == ["a:b", "good"]


@pytest.mark.parametrize(
    "words", [["groups", "--redis-url", "redis://127.0.0.1:1"], ["groups", "--profile", "absent"], ["nonsense"], []]
)
def test_where_there_is_nothing_to_offer_nothing_is_said(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert complete(words) != 0
    assert capsys.readouterr() == ("", "")
