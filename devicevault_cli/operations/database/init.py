"""db init: DeviceVault's tables in an empty database, for tests and trials."""

from __future__ import annotations

from dataclasses import dataclass

from devicevault_cli.operations.answer import ChangeAnswer
from devicevault_cli.repository.repository import Repository

TABLES = 4


@dataclass(frozen=True, slots=True)
class InitAnswer(ChangeAnswer):
    tables: int = 0
    devices: int = 0


def init_tables(repository: Repository, devices: int) -> InitAnswer:
    repository.create_tables()
    if devices:
        repository.add_devices(devices)
    return InitAnswer(TABLES, devices, applied=True)
