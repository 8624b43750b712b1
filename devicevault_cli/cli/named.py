"""What was typed and does not exist: groups and devices are looked up, and nothing matched is exit code 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from devicevault_cli.cli.context import Runtime
from devicevault_cli.errors import DvctlError, MissingGroup
from devicevault_cli.operations.named import NO_NAMES, Named, named_consumers, named_group, unknown_name

if TYPE_CHECKING:
    from devicevault_cli.operations.answer import ChosenAnswer
    from devicevault_cli.operations.changes.change import Change

C = TypeVar("C", bound="ChosenAnswer")


def conclude(run: Runtime, names: Named) -> None:
    """Report the ids and names that do not exist. Raises NothingMatched where none of them does."""
    if names.nothing:
        raise names.error()
    if names.unknown:
        run.printer.warn(names.says)


def looked_up(run: Runtime, answer: Mapping[str, Any], names: Named, rows: str | None = None, **how: Any) -> None:
    """As `answered`, for ids on a stream that may not exist yet: then that is what is said, and no error."""
    if names.nothing and run.stream.info() is None:
        run.printer.note(f"there is no stream {run.stream.key} yet")
        run.printer.answer(answer, rows, **how)
    else:
        answered(run, answer, names, rows, **how)


def answered(run: Runtime, answer: Mapping[str, Any], names: Named, rows: str | None = None, **how: Any) -> None:
    """Print an answer and report what does not exist; where nothing does, people read only that."""
    if run.printer.output == "table":
        answer = {name: value for name, value in answer.items() if value or name != "unknown"}
    if not (names.nothing and run.printer.output == "table"):
        run.printer.answer(answer, rows, **how)
    conclude(run, names)


def unmatched(change: Change[C], look: Callable[[], Named]) -> Change[C]:
    """The change; one that selected nothing names what was typed and does not exist."""
    if change.size or change.named.unknown or not (names := look()).unknown:
        return change
    return replace(change, named=names, answer=replace(change.answer, unknown=names.unknown))


def typed_group(run: Runtime) -> Named:
    """A group that was typed: where the stream has others, a group that does not exist is a typing error.

    A stream without any group is new, and a group from the environment is one that `consume` will create.
    """
    return named_group(run.group) if run.settings["group"].source == "flag" else NO_NAMES


def typed_consumer(run: Runtime, name: str | None) -> Named:
    """A consumer that was typed, in a group that may be a typing error too."""
    group = typed_group(run)
    if group.unknown or name is None:
        return group
    try:
        return named_consumers(run.group, [name], (info.name for info in run.group.consumers()))
    except MissingGroup:
        return NO_NAMES


def typed_device(run: Runtime, device: int | None) -> Named:
    """A device that was typed and of which nothing was found; without a database nobody knows which devices exist."""
    if device is None or not run.settings.has_database:
        return NO_NAMES
    try:
        run.repository.check(writing=False)
        known = device <= run.repository.device_id_max and run.repository.known_devices([device])
    except DvctlError:
        # What was asked for is answered already: nothing was found.
        return NO_NAMES
    return NO_NAMES if known else unknown_name(str(device), f"not found: there is no device {device}")
