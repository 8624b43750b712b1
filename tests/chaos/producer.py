"""What a chaos run publishes: good, repeated, odd and bad messages in bursts, through every outage of Redis."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import redis

from tests.support.messages import Message, Sent, bad, good, odd, publish
from tests.support.oracle import STREAM
from tests.support.redis_server import RedisServer

NUMBER = b"chaos_number"
BURST, EVERY_S = 50, 0.25


class Producer:
    """Publishes until it is told to stop. Each message carries its number, so that the stream tells what was sent."""

    def __init__(self, server: RedisServer, seed: int, every_s: float = EVERY_S) -> None:
        self.failures: list[str] = []
        self._server = server
        self._seed = seed
        self._every_s = every_s
        self._known: list[Message] = []
        self._answered: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loudly, name="chaos-producer")

    def __enter__(self) -> Producer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def sent(self) -> list[Sent]:
        """What stands on the stream, also where the answer to its XADD was lost.

        Raises AssertionError if Redis forgot what it had answered: then the run would prove nothing.
        """
        with self._server.client() as client:
            entries = client.xrange(STREAM)
        found = [Sent(key.decode(), self._known[int(fields[NUMBER])]) for key, fields in entries]
        forgotten = self._answered - {one.id for one in found}
        assert not forgotten, f"Redis forgot {len(forgotten)} entries that it had answered"
        return found

    def _loudly(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001  the report names it
            self.failures.append(f"the producer failed: {error!r}")

    def _work(self) -> None:
        for burst in self._bursts():
            numbered = [self._numbered(message) for message in burst]
            try:
                with self._server.client(socket_timeout=3) as client:
                    self._answered.update(one.id for one in publish(client, numbered))
            except redis.RedisError:
                pass  # what arrived nevertheless is found on the stream
            if self._stop.wait(self._every_s):
                return

    def _bursts(self) -> Iterator[list[Message]]:
        """Most good messages twice, a batch apart, so that two consumers hold one identity at the same time.

        The others once: what is lost of them has no second chance.
        """
        chance = random.Random(self._seed)
        start = 0
        while True:
            named = good(BURST, seed=self._seed, size=40, start=start)
            strange = odd(self._seed * 1000 + start) + bad(self._seed * 1000 + start)
            yield named + named[: BURST // 2] + chance.sample(strange, 3)
            start += BURST

    def _numbered(self, message: Message) -> Message:
        number = str(len(self._known)).encode()
        self._known.append(message)
        return Message(message.fields | {NUMBER: number}, message.reason)
