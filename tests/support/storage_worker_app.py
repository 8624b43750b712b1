"""The storage worker of the tests, as the real `celery` runs it: from outside it behaves like DeviceVault's.

It takes the task `storage.store`, acknowledges after the task, and publishes its result on `storage:results`. Instead
of storing anything it appends JSON lines to a file: what it received, what it stored. tests.support.celery_worker
starts it and reads them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from datetime import UTC, datetime
from typing import Any

import redis
from celery import Celery, signals

BROKER, REDIS, RECORD, OPTIONS = (f"STORAGE_WORKER_{name}" for name in ("BROKER", "REDIS", "RECORD", "OPTIONS"))
"""The environment variables that say what to connect to and where to write."""
STREAM = "storage:results"
BACKENDS = ("git", "fs", "filesystem")


def celery_app(broker_url: str, redis_url: str) -> Any:
    """An application configured as DeviceVault's: results in Redis, nothing else changed."""
    return Celery("devicevault", broker=broker_url, backend=redis_url, set_as_current=False)


_options = json.loads(os.environ.get(OPTIONS, "{}"))
_redis_url = os.environ.get(REDIS, "redis://127.0.0.1:1")
app = celery_app(os.environ.get(BROKER, "memory://"), _redis_url)
app.conf.update(
    broker_connection_max_retries=None,  # by default it gives up after a hundred attempts
    broker_connection_retry_on_startup=True,
    broker_transport_options=_options.get("transport", {}),
)
_results = redis.Redis.from_url(_redis_url)


@app.task(bind=True, name="storage.store", acks_late=True, soft_time_limit=300, time_limit=360)
def store(self: Any, payload: dict[str, Any]) -> dict[str, Any]:
    """Store a configuration, and say how that went."""
    began = time.monotonic()
    backend, config = payload.get("storage_backend") or "", payload.get("device_config") or ""
    result = {
        "operation": "store",
        "task_id": self.request.id,
        "task_identifier": payload.get("task_identifier") or f"storage:{_now()}",
        "device_id": payload.get("device_id"),
        "storage_backend": backend,
    }
    if backend not in BACKENDS:
        return _published(result | _failure(f"unsupported storage backend: {backend or None}"))
    if not config:
        return _published(result | _failure("device_config missing; nothing to store"))
    ref = hashlib.sha1(config.encode(), usedforsecurity=False).hexdigest()
    _record("stored", id=self.request.id, payload=payload, ref=ref)
    time.sleep(_options.get("delay_s", 0))
    duration = int((time.monotonic() - began) * 1000)
    log = _log("INFO", f"Stored to {backend}:{ref} in {duration}ms")
    return _published(result | {"status": "success", "storage_ref": ref, "storage_duration_ms": duration, "log": log})


def _failure(message: str) -> dict[str, Any]:
    return {"status": "failure", "storage_ref": "", "log": _log("ERROR", message)}


def _log(severity: str, message: str) -> list[dict[str, str]]:
    return [{"source": "storage_worker", "timestamp": _now(), "severity": severity, "message": message}]


def _now() -> str:
    return f"{datetime.now(UTC).replace(tzinfo=None).isoformat()}Z"


def _published(result: dict[str, Any]) -> dict[str, Any]:
    """Put the result on the stream: every value is text, and what is absent or 0 is empty (as in DeviceVault)."""
    names = ("task_id", "task_identifier", "device_id", "status", "log", "storage_backend", "storage_ref", "operation")
    fields: dict[Any, Any] = {name: str(result.get(name) or "") for name in (*names, "storage_duration_ms")}
    _results.xadd(STREAM, fields | {"log": json.dumps(result["log"])})
    return result


@signals.task_received.connect
def _received(request: Any, **_: Any) -> None:
    """Called for each message, before its task runs."""
    message = request.message
    body = message.body if isinstance(message.body, str) else bytes(message.body).decode()
    redelivered = bool(message.delivery_info.get("redelivered") or message.properties.get("redelivered"))
    _record("received", id=request.id, headers=message.headers, body=body, redelivered=redelivered)


@signals.worker_ready.connect
def _ready(**_: Any) -> None:
    _record("ready", pid=os.getpid())


def _record(event: str, **facts: Any) -> None:
    """Append one line, in one write: several workers may have the same file."""
    line = json.dumps({"event": event} | facts, default=str)
    file = os.open(os.environ[RECORD], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)
