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
from redis.typing import EncodableT, FieldT

from tests.support.allowance import Allowance
from tests.support.server import WAIT_S
from tests.support.servers import unavailable
from tools.generate import ROOT

FOLDER = ROOT / "completions"
DVCTL = Path(sys.executable).with_name("dvctl")
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
    ("dvctl consumers list --redis-u", "dvctl consumers list --redis-url"),
    ("dvctl status --pipeline sto", "dvctl status --pipeline storage"),
    ("dvctl consume --pipeline results,", "dvctl consume --pipeline results,storage"),
    ("dvctl config --output jsonl", "dvctl config --output jsonl"),
    ("dvctl pending -o tab", "dvctl pending -o table"),
    ("dvctl consume --on-reject dr", "dvctl consume --on-reject drop"),
    ("dvctl pending --group dev", "dvctl pending --group devicevault"),
    ("dvctl pending --consumer coll", "dvctl pending --consumer collector-7"),
    ("dvctl show 17", "dvctl show 1767225600000-0"),
    ("dvctl help stuck-pen", "dvctl help stuck-pending"),
    ("dvctl status --profile pro", "dvctl status --profile production"),
]


def test_the_shell_completes(completed: Callable[[str], str]) -> None:
    for line, wanted in LINES:
        found = [completed(line)]
        # A Redis that does not answer within a second counts as away, so that no shell hangs: on a busy machine again.
        while found[-1] != wanted and len(found) < 5:
            found.append(completed(line))
        assert found[-1] == wanted, found


def offered(url: str, *words: str, **environ: str) -> list[str]:
    """What bash is offered for the last word."""
    given = {
        "COMP_WORDS": " ".join(["dvctl", *words]),
        "COMP_CWORD": str(len(words)),
        "_DVCTL_COMPLETE": "complete_bash",
        "DEVICEVAULT_REDIS_URL": url,
    }
    done = subprocess.run([DVCTL], env=given | environ, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


def test_names_that_a_shell_would_run_or_break_up_are_not_offered(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    client.xadd("device:results", {"device_id": "1"})
    for name in ("good", "$(touch /tmp/x)", "a b", "`id`", "*", "-rf", "x;y", "a\x1bb", "'", '"', "~root", "a:b"):
        client.xgroup_create("device:results", name, "0")
    found: list[str] = []
    for _ in range(5):  # a Redis that does not answer within a second counts as away: on a busy machine again
        found = found or offered(redis_url, "pending", "--group", "")
    assert found == ["a:b", "good"]


def test_settings_before_and_after_the_command_choose_what_is_offered(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    client.xadd("other", {"device_id": "42"}, id="5-1")
    client.xgroup_create("other", "mine", "0")
    for words in (("--stream", "other", "pending", "--group", ""), ("pending", "--stream", "other", "--group", "")):
        assert ["mine"] in (offered(redis_url, *words) for _ in range(5))
    assert ["42"] in (offered(redis_url, "tail", "--stream", "other", "--device", "") for _ in range(5))
    assert ["5-1"] in (offered(redis_url, "show", "--stream", "other", "5") for _ in range(5))


def test_reasons_and_dead_ids(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    letter: dict[FieldT, EncodableT] = {
        "_dvctl.id": "7-7",
        "_dvctl.reason": "unknown-device",
        "_dvctl.group": "devicevault",
    }
    client.xadd("{device:results}:dead", letter)
    assert ["unknown-device"] in (offered(redis_url, "dlq", "list", "--reason", "") for _ in range(5))
    assert ["7-7"] in (offered(redis_url, "dlq", "show", "7") for _ in range(5))


def test_snapshots(redis_url: str, tmp_path: Path) -> None:
    environ = {"DEVICEVAULT_REDIS_URL": redis_url, "XDG_STATE_HOME": str(tmp_path)}
    redis.Redis.from_url(redis_url).xgroup_create("device:results", "devicevault", "0", mkstream=True)
    done = subprocess.run(
        [DVCTL, "destroy-group", "--confirm", "devicevault"], env=environ, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    [path] = offered(redis_url, "restore-group", "", XDG_STATE_HOME=str(tmp_path))
    assert Path(path).is_file()


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        (("pending", "--group", ""), {"DEVICEVAULT_REDIS_URL": "redis://127.0.0.1:1"}),
        (("pending", "--profile", "absent", "--group", ""), {}),
        (("status", "--profile", ""), {}),
        (("pending", "--group", ""), {"DEVICEVAULT_REDIS_URL": "nonsense"}),
    ],
)
def test_where_there_is_nothing_to_offer_nothing_is_said(
    redis_url: str, words: tuple[str, ...], environ: dict[str, str]
) -> None:
    assert offered(redis_url, *words, **environ) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_that_is_printed_is_the_one_that_is_shipped(shell: str) -> None:
    done = subprocess.run([DVCTL, "completion", shell], capture_output=True, text=True, check=True)
    assert done.stdout == (FOLDER / {"bash": "dvctl.bash", "zsh": "_dvctl", "fish": "dvctl.fish"}[shell]).read_text()
