"""What a runbook has an operator type beside dvctl: carried out by the test, which has no systemd and no pip index."""

from __future__ import annotations

import shlex
import subprocess
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from devicevault_cli.streams.group import Group
from tests.support.process import Dvctl, Running
from tests.support.proxy import DatabaseProxy
from tests.support.server import wait_until

OLD_PASSWORD = "old-secret"
USER = "dvctl-runbook"


class Host:
    """A host with dvctl, its services `dvctl-consume@N`, and a database service."""

    def __init__(self, dvctl: Dvctl, group: Group, redis_url: str, database_url: str) -> None:
        self._dvctl, self._group = dvctl, group
        self._redis_url, self._database_url = redis_url, database_url
        self._database: DatabaseProxy | None = None
        self._services: dict[str, Running] = {}
        self._ended = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for service in self._services.values():
            service.kill9()
        self._ended.close()

    def prepare(self, page: str) -> None:
        """What the page needs beside the staged stream and table."""
        if page == "database-down":
            self._database = self._ended.enter_context(DatabaseProxy(self._database_url))
            self._database.refuse = True
            self._dvctl.use(database_url=self._database.url)
        elif page == "scale-out":
            self._start("0", "--rate", "1")
        elif page == "upgrade":
            self._systemctl("start", "dvctl-consume@0")
        elif page == "credentials-rotated":
            self._rotate()

    def do(self, command: str) -> str | None:
        """Carry out a command that is not dvctl's. -> what it prints; None: the shell shall run it"""
        words = shlex.split(command)
        if words[0] == "systemctl":
            self._systemctl(words[1], words[-1])
        elif words[0] == "export":
            self._export(command, words[1].partition("=")[0])
        elif not words[0].endswith("/pip"):
            return None
        return ""

    def _systemctl(self, verb: str, unit: str) -> None:
        if unit == "postgresql":
            assert self._database is not None and verb == "start"
            self._database.heal()
            return
        name, _, instance = unit.partition("@")
        assert name == "dvctl-consume"
        chosen = list(self._services) if instance == "*" else [instance]
        if verb in ("stop", "restart", "disable"):
            for number in chosen:
                assert self._services.pop(number).sigterm().code == 0
        if verb in ("start", "restart", "enable"):
            for number in chosen or ["0"]:
                self._start(number)
            wait_until(self._caught_up, what="the consumers to catch up")

    def _start(self, instance: str, *options: str) -> None:
        """As deploy/systemd/dvctl-consume@.service does; started once it reads."""
        running = self._services[instance] = self._dvctl.start("consume", "--instance", instance, *options)
        running.wait_for("consuming ")

    def _caught_up(self) -> bool:
        about, stream = self._group.info(), self._group.stream.info()
        if about is None or stream is None:
            return False
        return about.last_delivered_id >= stream.last_generated_id and about.pending == 0

    def _export(self, command: str, name: str) -> None:
        """The value as the shell of the operator has it."""
        line = f'{command}; printf %s "${name}"'
        done = subprocess.run(
            ["/bin/bash", "-c", line], env=self._dvctl.environment, capture_output=True, text=True, check=True
        )
        self._dvctl.use(**{name: done.stdout})

    def _rotate(self) -> None:
        """The administrator has given dvctl's user of Redis a new password, and dvctl has the old one."""
        client: Any = self._group.stream.client
        client.execute_command("ACL", "SETUSER", USER, "reset", "on", ">new-secret", "~*", "+@all")
        self._ended.callback(client.execute_command, "ACL", "DELUSER", USER)
        self._dvctl.use(redis_url=self._redis_url.replace("redis://", f"redis://{USER}:{OLD_PASSWORD}@", 1))
