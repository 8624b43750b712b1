"""Writing to stderr without ever failing: a line that cannot be written is dropped and counted."""

from __future__ import annotations

import errno
import io
import os
from typing import Any, TextIO


class BestEffort:
    """Lines for a stream that may be closed, full or read by nobody. `dropped` counts those it did not take."""

    def __init__(self, stream: TextIO) -> None:
        self.dropped = 0
        self.reason = ""
        self._stream = stream
        self._torn = False

    def line(self, text: str) -> bool:
        """Write a line, or count it as dropped. -> whether it was written"""
        written = self.try_line(text)
        self.dropped += not written
        return written

    def try_line(self, text: str) -> bool:
        """Write a line; dropping it is not counted. -> whether it was written"""
        try:
            self._write(f"\n{text}\n" if self._torn else f"{text}\n")
        except OSError as error:
            self.reason = error.strerror or type(error).__name__
            return False
        except ValueError:
            self.reason = "stderr is closed"
            return False
        self._torn = False
        return True

    def _write(self, text: str) -> None:
        """Past Python's buffer, which would keep a line that failed and write it later, after it was counted."""
        buffer = getattr(self._stream, "buffer", None)
        raw = getattr(buffer, "raw", buffer)
        if not isinstance(raw, io.RawIOBase):
            self._stream.write(text)
            self._stream.flush()
            return
        left = memoryview(text.encode(self._stream.encoding, self._stream.errors or "backslashreplace"))
        while left:
            count = self._write_some(raw, left)
            left = left[count:]
            self._torn = True

    def _write_some(self, raw: Any, data: memoryview) -> int:
        count: int | None = raw.write(data)
        if not count:  # a stream that does not block, and whose reader is slow
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return count
