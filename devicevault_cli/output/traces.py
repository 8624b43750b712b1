"""The chain of causes of an error, for --verbose: where it happened, without the secrets that drivers quote."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from devicevault_cli.redact import explain


def chain(error: BaseException) -> Iterator[str]:
    """The lines of a traceback, the first cause first."""
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None:
        yield from chain(earlier)
        yield "which led to:"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
    lines = explain(error).splitlines() or [""]
    yield f"{type(error).__name__}: {lines[0]}"
    yield from (f"  {line}" for line in lines[1:])
