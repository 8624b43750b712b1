"""Programs that check files of other programs: used where the machine has them, named at the end of a run where not."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support import servers

NEEDS = {
    "groff": "no groff on this machine (it formats the manual pages)",
    "hadolint": "no hadolint on this machine (it checks the container file)",
    "kubectl": "no kubectl on this machine (it builds the Kubernetes objects with kustomize)",
    "mandoc": "no mandoc on this machine (it checks the manual pages)",
    "promtool": "no promtool on this machine (Debian: prometheus)",
    "systemd-analyze": "no systemd-analyze on this machine (Debian: systemd)",
}


def tool(name: str) -> str:
    """The path of a program; without it the test is reported as not run."""
    found = shutil.which(name)
    if found is None:
        servers.unavailable(NEEDS[name], required=False)
    return found


def checked(name: str, *words: str | Path, stdin: str = "", **environment: str) -> str:
    """Run a program that accepts its input. -> what it said"""
    command = [tool(name), *words]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said
