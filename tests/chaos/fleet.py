"""The consumers of a chaos run: started, killed, frozen, replaced; one that ends by itself is a finding."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.support.process import DVCTL, Running

ROOT = Path(__file__).parents[2]
CLAIM_IDLE_S = 1.5
ENDED_S = 60.0
"""How long after SIGTERM a consumer may run, whose own limit is ten seconds."""
UNREACHABLE = 69
"""The exit code where a server is away."""


class Fleet:
    """`dvctl consume` processes by name, all with the same environment; `mutant` replaces the installed command."""

    def __init__(
        self, directory: Path, redis_url: str, database_url: str, mutant: str | None, **environment: str
    ) -> None:
        self.findings: list[str] = []
        self.last_words: list[str] = []
        """Of all who were there when a drain came to no end."""
        self._directory = directory
        self._command = [str(DVCTL)] if mutant is None else [sys.executable, "-m", "tests.chaos.mutants", mutant]
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "PYTHONFAULTHANDLER": "1",
            "DEVICEVAULT_REDIS_URL": redis_url,
            "DEVICEVAULT_DATABASE_URL": database_url,
            **environment,
        }
        self._running: dict[str, Running] = {}
        self._ending: list[tuple[str, Running]] = []
        self._frozen: set[str] = set()
        self._names = (f"worker-{number}" for number in itertools.count())
        self._files = itertools.count()

    def start(self, name: str | None = None) -> None:
        """Start a daemon, under a name of its own unless one is given."""
        name = name or next(self._names)
        self._running[name] = self._start("consume", "--consumer", name, "--batch-size", "50", *self._idle())

    def drain(self, seconds: float) -> bool:
        """A last consumer beside those that live. -> whether nothing is left undelivered or pending

        A drain ends at once where a server is away; the last loss may have waited for its first request: then another.
        """
        wait = ("--drain", "--max-wait", f"{seconds:g}s", "-o", "json")
        for _ in range(5):
            drainer = self._start("consume", "--consumer", "drainer", *wait, *self._idle())
            try:
                answer = drainer.wait(seconds + 45)
            except TimeoutError as error:
                self.findings.append(f"the drain did not end: {error}")
                drainer.kill9()
                return False
            if answer.code != UNREACHABLE:
                break
        if answer.code:
            said = {"drainer": answer.stderr, **{name: each.stderr for name, each in self._running.items()}}
            self.last_words = [f"{name} said last: {text[-1500:]}" for name, text in said.items()]
        return answer.code == 0

    def kill(self, chance: random.Random, *, comes_back: bool) -> None:
        """kill -9 one; another takes its place, under the same name or a new one."""
        name = self._any(chance)
        self._running.pop(name).kill9()
        self.start(name if comes_back else None)

    def terminate(self, chance: random.Random) -> None:
        """SIGTERM one, which has to end with 0 also in an outage; another takes its place."""
        name = self._any(chance)
        running = self._running.pop(name)
        running.send(signal.SIGTERM)
        self._ending.append((name, running))
        self.start()

    def freeze(self, chance: random.Random) -> str:
        name = self._any(chance)
        self._frozen.add(name)
        self._running[name].freeze()
        return name

    def thaw(self, name: str) -> None:
        self._frozen.discard(name)
        self._running[name].thaw()

    def look(self) -> None:
        """A daemon outlives every outage: note each that ended by itself, and replace it."""
        for name in [name for name, running in self._running.items() if not running.alive()]:
            self._expect_0(name, self._running.pop(name), unasked=True)
            self.start()

    def stop(self) -> None:
        """SIGTERM all."""
        self.look()
        for name, running in self._running.items():
            running.send(signal.SIGTERM)
            self._ending.append((name, running))
        self._running.clear()
        for name, running in self._ending:
            self._expect_0(name, running)

    def kill_all(self) -> None:
        for running in (*self._running.values(), *(running for _, running in self._ending)):
            if running.alive():
                running.kill9()

    def _expect_0(self, name: str, running: Running, *, unasked: bool = False) -> None:
        try:
            answer = running.wait(ENDED_S)
        except TimeoutError:
            running.send(signal.SIGABRT)
            where = running.wait(60).stderr[-3000:]
            self.findings.append(f"{name} did not end within {ENDED_S:g} s of SIGTERM; it was at: {where}")
            return
        # Before its handlers stand, while Python still imports, SIGTERM ends the process as it ends any other.
        if unasked or answer.code not in (0, -signal.SIGTERM):
            self.findings.append(f"{name} ended with {answer.code}: {answer.stderr[-1500:]}")

    def _any(self, chance: random.Random) -> str:
        return chance.choice(sorted(self._running.keys() - self._frozen))

    def _idle(self) -> Iterable[str]:
        return "--claim-idle", f"{CLAIM_IDLE_S:g}s"

    def _start(self, *words: str) -> Running:
        out = self._directory / f"{next(self._files)}.out"
        err = out.with_suffix(".err")
        with out.open("wb") as stdout, err.open("wb") as stderr:
            popen = subprocess.Popen(
                [*self._command, *words],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self._directory,
                env=self._environment,
            )
        return Running(popen, out, err)
