"""Where a Redis frame ends: enough of RESP2 and RESP3 for a proxy to tell one command, or one reply, from the next."""

from __future__ import annotations

_BULK = b"$!="
_LISTS = b"*~>"
_MAPS = b"%|"


class Frames:
    """Cuts a byte stream into complete frames. Each byte is looked at once, however large the frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self._open: list[int] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that these bytes complete. Raises ValueError on what is no RESP."""
        self._buffer += data
        frames = []
        while self._element():
            if not self._open:
                frames.append(bytes(self._buffer[: self._position]))
                del self._buffer[: self._position]
                self._position = 0
        return frames

    def _element(self) -> bool:
        """Pass over one element; False while it is incomplete."""
        line_end = self._buffer.find(b"\r\n", self._position)
        if line_end < 0:
            return False
        kind, rest = self._buffer[self._position], bytes(self._buffer[self._position + 1 : line_end])
        end = line_end + 2
        if kind in _BULK and int(rest) >= 0:
            end += int(rest) + 2
            if end > len(self._buffer):
                return False
        elif kind in _LISTS + _MAPS and int(rest) > 0:
            self._open.append(int(rest) * (2 if kind in _MAPS else 1))
            self._position = end
            return True
        elif kind not in _BULK + _LISTS + _MAPS + b"+-:_#,(":
            raise ValueError(f"no RESP: {bytes(self._buffer[self._position : end])[:80]!r}")
        self._position = end
        self._close()
        return True

    def _close(self) -> None:
        """One element less is missing of what is open; what is complete closes what it stands in."""
        while self._open:
            self._open[-1] -= 1
            if self._open[-1] > 0:
                return
            self._open.pop()


def command_name(frame: bytes) -> str:
    """The command of a request frame, in capitals: `*2\\r\\n$4\\r\\nXLEN\\r\\n...` gives `XLEN`."""
    parts = frame.split(b"\r\n", 3)
    return parts[2].decode("ascii", "replace").upper() if frame[:1] == b"*" and len(parts) > 2 else ""
