"""db init: DeviceVault's tables in an empty database, for tests and trials."""

from __future__ import annotations

from dataclasses import dataclass

from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.operations.changes.change import journalled
from devicevault_cli.operations.changes.journal import Journal
from devicevault_cli.operations.changes.undo import impossible
from devicevault_cli.repository.repository import Repository

TABLES = 4


@dataclass(frozen=True, slots=True)
class InitAnswer(ChangeAnswer):
    tables: int = 0
    devices: int = 0


UNDO = impossible("dvctl drops no tables; drop them in the database, or remove the SQLite file")


def init_tables(repository: Repository, devices: int, journal: Journal) -> InitAnswer:
    """Create the tables and add devices, and journal that."""

    def create() -> InitAnswer:
        repository.create_tables()
        if devices:
            repository.add_devices(devices)
        return InitAnswer(TABLES, devices, applied=True)

    return journalled(journal, "db init", {"tables": TABLES, "devices": devices}, create)
