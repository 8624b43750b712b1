"""The message that asks a storage worker of DeviceVault to store a configuration: Celery's task `storage.store`.

Body and envelope are those that `celery_app.send_task` makes (message protocol 2), but for `argsrepr`: Celery would
write the arguments there in clear, and with them the password of the Git repository.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import NAMESPACE_URL, uuid3, uuid5

from devicevault_cli.broker.json_ascii import quoted

TASK = "storage.store"
MASKED = "[...]"
BACKENDS = {"git": "git", "fs": "fs", "filesystem": "fs"}
"""Types of a backup location (in lower case) whose configurations a storage worker takes, and its name for them."""
QUEUES = tuple(f"storage.{backend}" for backend in sorted(set(BACKENDS.values())))
_EMPTY = b'"device_config": ""'
_EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def task_uuid(stream: str, first_id: str) -> str:
    """The Celery id of an entry's task, the same at each dispatch: UUIDv5 of `STREAM/ID` in the namespace of URLs.

    `first_id`: the id the message had first on the stream.
    """
    return str(uuid5(NAMESPACE_URL, f"{stream}/{first_id}"))


@dataclass(frozen=True, slots=True)
class StoreTask:
    """One configuration to be stored.

    `id`: see task_uuid. `backend`: `git` or `fs`. `config`: of the backup location. `device_config`: UTF-8, not decoded
    before it is sent: a batch of firmware images need not stand in memory twice. `encrypt`: whether the backup is to be
    encrypted; None: this version of DeviceVault knows no such key.
    """

    id: str
    task_id: str
    task_identifier: str
    device_id: int
    backend: str
    config: Any = field(repr=False)
    device_config: bytes = field(repr=False)
    encrypt: bool | None = None

    @property
    def queue(self) -> str:
        """Where the storage workers of this backend read."""
        return f"storage.{self.backend}"

    def body(self) -> bytes:
        """The message's body: JSON in ASCII."""
        payload = {
            "task_id": self.task_id,
            "task_identifier": self.task_identifier,
            "device_id": self.device_id,
            "storage_backend": self.backend,
            "storage_config": self.config or {},
            "device_config": "",
        } | ({} if self.encrypt is None else {"encrypt_backup": self.encrypt})
        before, _, after = json.dumps([[payload], {}, _EMBEDDED]).encode().rpartition(_EMPTY)
        return b"".join((before, _EMPTY[:-2], quoted(self.device_config), after))

    def headers(self) -> dict[str, Any]:
        """The message's headers, in Celery's order."""
        return {
            "lang": "py",
            "task": TASK,
            "id": self.id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": self.id,
            "parent_id": None,
            "argsrepr": MASKED,
            "kwargsrepr": "{}",
            "origin": origin(),
            "ignore_result": None,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        }

    def properties(self) -> dict[str, str]:
        """The message's properties but for those that the broker's client adds."""
        return {"correlation_id": self.id, "reply_to": reply_to()}


@cache
def origin() -> str:
    """Who sends: `gen`, the process id and the host, as Celery names a client."""
    return f"gen{os.getpid()}@{socket.gethostname()}"


@cache
def reply_to() -> str:
    """The queue where Celery would look for a result. Nobody reads it."""
    return str(uuid3(NAMESPACE_URL, origin()))
