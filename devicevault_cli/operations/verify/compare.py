"""Compares a page of entries with their rows by column, so that only the others are classified one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import not_
from typing import NamedTuple

from devicevault_cli.columns import decoded_parts
from devicevault_cli.messages import Decision, Decoded
from devicevault_cli.operations.verify.classes import ClassifiedEntry
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.record_columns import RecordKeys, joined_keys
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.page import Page


class Compared(NamedTuple):
    """A page of entries. `matches`, for each: whether it has a row, and no row of another device or status."""

    page: Page
    matches: Sequence[bool]

    def others(self) -> Page:
        """The entries that do not match."""
        return self.page.where(list(map(not_, self.matches)))

    def persisted(self, pipeline: Pipeline, device_id_max: int) -> list[ClassifiedEntry]:
        """The matching entries, classified, without their rows."""
        page = self.page.where(self.matches)
        decisions: list[Decision] = []
        for part, records in decoded_parts(page, pipeline.decode_columns, device_id_max):
            if records is None:  # few, or a time or a duration is unusual
                decisions += [pipeline.decode_entry(entry, device_id_max) for entry in part]
            else:
                decisions += map(Decoded, records)
        # A message that was re-published, and so had another id first, does not match.
        return [
            ClassifiedEntry(key, key, "persisted", decided, ())
            for key, decided in zip(page.ids, decisions, strict=True)
        ]


def ask(page: Page, pipeline: Pipeline, repository: Repository) -> Callable[[], Compared]:
    """Have a page compared. -> a function that waits for the answer; PostgreSQL works on it meanwhile"""
    comparable, keys = _comparable(page, pipeline, repository.device_id_max)
    if not any(comparable):
        return lambda: Compared(page, comparable)
    unmatched = repository.ask_unmatched(keys)

    def answer() -> Compared:
        matches = [True] * len(keys.status)
        for position in unmatched():
            matches[position] = False
        if len(keys.status) < len(page):
            found = iter(matches)
            matches = [is_comparable and next(found) for is_comparable in comparable]
        return Compared(page, matches)

    return answer


def _comparable(page: Page, pipeline: Pipeline, device_id_max: int) -> tuple[list[bool], RecordKeys]:
    """For each entry whether it is a usual message with an identifier; and the keys of those that are."""
    comparable: list[bool] = []
    found: list[RecordKeys] = []
    for part, keys in decoded_parts(page, pipeline.decode_keys, device_id_max):
        if keys is None:
            comparable += [False] * len(part)
        else:
            named = list(map(bool, keys.task_identifier))
            comparable += named
            found.append(keys if all(named) else keys.where(named))
    return comparable, joined_keys(found)
