"""dvctl publish: add messages to a stream as a worker would, made up or from a file."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from devicevault_cli.errors import DvctlError, Usage
from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.changes.interruption import interruptible
from devicevault_cli.operations.entries.message_files import Message, Numbered
from devicevault_cli.plural import number
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import Stream

MESSAGES_PER_ROUND_TRIP = 500
"""Where a round trip fails, it is unknown which of its messages were added."""
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class PublishAnswer(Answer):
    published: int
    first_id: EntryId | None
    last_id: EntryId | None


class PublishStopped(DvctlError):
    """Publishing stopped early; the message says how many messages were published."""

    def __init__(self, message: str, exit_code: int, hint: str | None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def sample_messages(count: int, device_id: int, status: str, log: str) -> Iterator[Message]:
    """Messages as DeviceVault's worker writes them, one per made-up job."""
    for _ in range(count):
        now = datetime.now(UTC).isoformat()
        yield {
            b"task_id": str(uuid.uuid4()).encode(),
            b"task_identifier": f"collect:{device_id}:{now}:{uuid.uuid4().hex[:8]}".encode(),
            b"device_id": str(device_id).encode(),
            b"status": status.encode(),
            b"log": json.dumps([log]).encode(),
            b"device_config": b"",
            b"collection_duration_ms": b"0",
            b"initiated_at": now.encode(),
            b"is_binary": b"False",
        }


def sample_storage_messages(count: int, device_id: int, status: str, log: str) -> Iterator[Message]:
    """Messages as DeviceVault's storage worker writes them."""
    for message in sample_messages(count, device_id, status, log):
        shared = {name: message[name] for name in (b"task_id", b"task_identifier", b"device_id", b"status", b"log")}
        yield {
            b"operation": b"store",
            **shared,
            b"storage_backend": b"git",
            b"storage_ref": uuid.uuid4().hex.encode(),
            b"storage_duration_ms": b"0",
        }


def numbered(messages: Iterable[Message]) -> Iterator[Numbered]:
    """Made-up messages, numbered from 1."""
    return (Numbered(line, message) for line, message in enumerate(messages, 1))


@dataclass(slots=True)
class _Published:
    """Progress. `line`: all messages up to this line were published; `sending`: first and last line being sent."""

    count: int = 0
    first: EntryId | None = None
    last: EntryId | None = None
    line: int = 0
    sending: tuple[int, int] | None = None

    def add(self, page: list[Numbered], ids: list[EntryId], failed: int | None) -> None:
        """Count a page that was sent, up to the message that failed."""
        self.count += len(ids)
        if ids:
            self.first, self.last = self.first or ids[0], ids[-1]
        taken = page if failed is None else page[:failed]
        self.line = taken[-1].line if taken else self.line
        self.sending = None

    def sentence(self, *, of_file: bool) -> str:
        """The progress, for the message of an error."""
        said = f"{number(self.count, 'message')} {'was' if self.count == 1 else 'were'} published"
        if of_file and self.count:
            said += f", up to line {self.line}"
        if self.sending is not None:
            first, last = self.sending
            unit = "line" if of_file else "message"
            said += f"; {unit}s {first} to {last} were being sent, and may have been published too"
        return said


def publish_all(
    stream: Stream,
    messages: Iterable[Numbered],
    rate: float | None,
    show: Callable[[int], None],
    *,
    of_file: bool = False,
) -> PublishAnswer:
    """Add messages, a page at a time, at most `rate` a second.

    Raises PublishStopped, also after SIGINT or SIGTERM: once the current page is sent.
    """
    done = _Published()
    try:
        with interruptible() as interruption:
            for page in _paced(messages, rate):
                with interruption.held():
                    done.sending = page[0].line, page[-1].line
                    added = stream.add_some([message for _, message in page])
                    done.add(page, added.ids, added.failed)
                show(done.count)
                if added.error is not None:
                    raise added.error
    except DvctlError as error:
        hint = error.hint or ("correct that line" if isinstance(error, Usage) else None)
        raise _stopped(done, str(error), error.exit_code, hint, of_file=of_file) from error
    except KeyboardInterrupt as error:
        raise _stopped(done, "interrupted", INTERRUPTED, None, of_file=of_file) from error
    return PublishAnswer(done.count, done.first, done.last)


def _paced(messages: Iterable[Numbered], rate: float | None) -> Iterator[list[Numbered]]:
    source = iter(messages)
    started, sent = time.monotonic(), 0
    size = max(1, min(MESSAGES_PER_ROUND_TRIP, int(rate / 10))) if rate else MESSAGES_PER_ROUND_TRIP
    while page := list(islice(source, size)):
        if rate:
            time.sleep(max(0.0, started + sent / rate - time.monotonic()))
        yield page
        sent += len(page)


def _stopped(done: _Published, why: str, exit_code: int, hint: str | None, *, of_file: bool) -> PublishStopped:
    if of_file and done.line:
        further = f"continue with --from-line {done.line + 1}"
        hint = f"{hint}; then {further}" if hint else further
    return PublishStopped(f"{why}; {done.sentence(of_file=of_file)}", exit_code, hint)
