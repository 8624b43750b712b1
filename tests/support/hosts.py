"""Hosts of a test's own: network namespaces on one bridge, which can be cut off from it and healed."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from contextlib import suppress
from functools import cache

from tests.support import servers
from tests.support.process import DVCTL, Dvctl, Running
from tests.support.server import ServerFailed
from tests.support.warm import OWN_HOST

NO_NETWORKS = "network namespaces (ip netns, as root)"
_numbers = itertools.count()


@cache
def can_make_networks() -> bool:
    """Whether this user may make network namespaces, bridges and pairs of interfaces here."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    name = f"dvctl-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return made


class Hosts:
    """`count` hosts and a switch. `address`: where servers listen that the hosts are to reach.

    The addresses are those of RFC 2544, which nothing routes.
    """

    def __init__(self, count: int) -> None:
        if not can_make_networks():
            servers.unavailable(NO_NETWORKS)
        number = _add_switch()
        self._prefix, network = f"dv{number}", f"198.{18 + number // 256}.{number % 256}"
        self._switch, self.address = _switch(number), f"{network}.1"
        self.network = f"{network}.0/24"
        self.count = 0
        try:
            _ip("address", "add", f"{self.address}/24", "dev", self._switch)
            _ip("link", "set", self._switch, "up")
            for host in range(count):
                self._add(host, f"{network}.{host + 2}/24")
        except BaseException:
            self.remove()
            raise

    def _add(self, host: int, address: str) -> None:
        space, cable = self._space(host), self._cable(host)
        _ip("netns", "add", space)
        self.count += 1
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", cable, "master", self._switch, "up")
        _ip("-n", space, "address", "add", address, "dev", "eth0")
        for interface in ("eth0", "lo"):
            _ip("-n", space, "link", "set", interface, "up")

    def start(self, dvctl: Dvctl, host: int, *words: str, name: str = "") -> Running:
        """Start the installed command on a host. `name`: its host name, where that is not one of its own."""
        named = {"PYTHONPATH": str(OWN_HOST), "DVCTL_TEST_HOST": name or self._space(host)}
        files = f"{self._space(host)}-{next(_numbers)}"
        stdout, stderr = (dvctl.directory / f"{files}.{stream}" for stream in ("out", "err"))
        with stdout.open("wb") as out, stderr.open("wb") as err:
            popen = subprocess.Popen(
                ["ip", "netns", "exec", self._space(host), str(DVCTL), *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=dvctl.directory,
                env=dvctl.environment | named,
            )
        running = Running(popen, stdout, stderr)
        dvctl.adopt(running)
        return running

    def cut(self, host: int) -> None:
        """What the host sends is lost in silence, and so is what is sent to it."""
        _ip("link", "set", self._cable(host), "nomaster")

    def heal(self, host: int) -> None:
        _ip("link", "set", self._cable(host), "master", self._switch)

    def remove(self) -> None:
        for host in range(self.count):
            for words in (("link", "del", self._cable(host)), ("netns", "del", self._space(host))):
                with suppress(subprocess.CalledProcessError):
                    _ip(*words)
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._switch)

    def _space(self, host: int) -> str:
        return f"{self._prefix}-host{host}"

    def _cable(self, host: int) -> str:
        return f"{self._prefix}c{host}"


def _add_switch() -> int:
    """A number that no other test process has, nor one that was killed and left its switch. -> it"""
    for _ in range(512):
        number = (os.getpid() * 2 + next(_numbers)) % 512
        with suppress(subprocess.CalledProcessError):
            # An address of its own: that of a cable would make the kernel take in what comes by the cable alone.
            own = f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"
            _ip("link", "add", _switch(number), "address", own, "type", "bridge", "forward_delay", "0")
            return number
    raise ServerFailed("no bridge can be made")


def _switch(number: int) -> str:
    return f"dv{number}s"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
