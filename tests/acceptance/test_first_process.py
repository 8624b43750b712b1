"""dvctl as process 1 of a container: the kernel delivers it no SIGTERM that it does not handle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.allowance import wait_for_end
from tests.support.process import DVCTL, Dvctl
from tests.support.server import WAIT_S, wait_until

pytestmark = pytest.mark.acceptance

ENDED_BY_SIGTERM = 128 + signal.SIGTERM
EARLIEST_S = 0.05
NO_NAMESPACES = "process namespaces (unshare, as root)"


def can_unshare(*words: str) -> bool:
    """Whether this user may make namespaces on this machine."""
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", *words, "true"], capture_output=True, check=False).returncode == 0


def handles_sigterm(pid: int) -> bool:
    (mask,) = [
        line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt")
    ]
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def code_of_one_stopped_early(dvctl: Dvctl) -> int:
    """Start a consumer as process 1, and send one SIGTERM as soon as it can hear it. -> its exit code"""
    began = time.monotonic()
    command = ["unshare", "--pid", "--fork", "--mount-proc", str(DVCTL), "consume"]
    with subprocess.Popen(
        command, env=dvctl.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as outside:
        children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children")
        wait_until(lambda: children.read_text().split(), what="the process in the namespace", every=0.001)
        pid = int(children.read_text().split()[0])
        try:
            wait_until(lambda: handles_sigterm(pid), what="a handler of SIGTERM", every=0.001)
            time.sleep(max(0.0, began + EARLIEST_S - time.monotonic()))
            os.kill(pid, signal.SIGTERM)
            return wait_for_end(outside, WAIT_S)
        finally:
            if outside.poll() is None:
                os.kill(pid, signal.SIGKILL)


def test_the_first_process_ends_by_a_sigterm_that_comes_while_it_starts(dvctl: Dvctl, sqlite_url: str) -> None:
    """A busy machine may let the process go on to its own handler before the signal is sent: then it ends with 0."""
    if not can_unshare("--pid", "--fork", "--mount-proc"):
        servers.unavailable(NO_NAMESPACES)
    dvctl.use("redis://127.0.0.1:1/0", sqlite_url)
    codes: list[int] = []
    while ENDED_BY_SIGTERM not in codes and len(codes) < 10:
        codes.append(code_of_one_stopped_early(dvctl))
    assert codes[-1] == ENDED_BY_SIGTERM, codes
    assert set(codes) <= {0, ENDED_BY_SIGTERM}


LOOK = """
import os, signal, sys
from devicevault_cli.__main__ import main
before = set(sys.modules)

class Look:
    def find_spec(self, name, path, target=None):
        if name.startswith("devicevault_cli.cli"):
            print(callable(signal.getsignal(signal.SIGTERM)), "typer" in sys.modules)
            os._exit(0)

os.getpid = lambda: int(sys.argv[1])
sys.meta_path.insert(0, Look())
main()
"""


@pytest.mark.parametrize(("pid", "handled"), [("1", "True"), ("2", "False")])
def test_the_handler_stands_before_anything_is_imported(pid: str, handled: str) -> None:
    """Any other process has its default action, by which whoever started it sees that a signal ended it."""
    said = subprocess.run([sys.executable, "-c", LOOK, pid], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [handled, "False"]
