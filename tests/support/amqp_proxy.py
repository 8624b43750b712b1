"""A proxy before RabbitMQ that loses publisher confirms; everything else is the proxy of every test."""

from __future__ import annotations

import socket

from tests.support.proxy import Link, Loss, Proxy, Then

_HEADER = 7
"""A frame: type, channel (2 bytes), size of the payload (4 bytes), payload, end."""
_METHOD = b"\x01"
_CONFIRMS = (b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78")
"""Class and method of basic.ack and basic.nack, which the server sends for nothing else."""


class AmqpProxy(Proxy):
    """Knows AMQP's frames, so that it can lose the n-th confirm of what was published."""

    def lose_confirm(self, *, nth: int = 1, then: Then = "cut") -> Loss:
        """Lose the n-th confirm from now on, whatever number of messages it stands for; the messages have arrived."""
        return self.lose(lambda _, frame: frame[:1] == _METHOD and frame[7:11] in _CONFIRMS, nth, then)

    def link(self, client: socket.socket, server: socket.socket) -> Link:
        return _AmqpLink(self, client, server)


class _AmqpLink(Link):
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        super().__init__(proxy, client, server)
        self._buffer = b""

    def reply(self, data: bytes) -> bytes:
        passed = b""
        self._buffer += data
        while frame := self._frame():
            if loss := self.proxy.due(frame):
                self.lost(loss)
            if not self.silent:
                passed += frame
        return passed

    def _frame(self) -> bytes:
        """The next complete frame, or nothing yet."""
        size = _HEADER + int.from_bytes(self._buffer[3:_HEADER]) + 1
        if len(self._buffer) < max(size, _HEADER + 1):
            return b""
        frame, self._buffer = self._buffer[:size], self._buffer[size:]
        return frame
