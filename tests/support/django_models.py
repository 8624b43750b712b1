"""DeviceVault's tables as Django models, for reading rows back as DeviceVault will."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings
from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

if not settings.configured:
    settings.configure(USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.AutoField", DATABASES={})
    django.setup()


class BackupLocation(models.Model):
    name = models.CharField(max_length=128)
    location_type = models.CharField(max_length=64)
    config = models.JSONField(default=dict)

    class Meta:
        app_label = "locations"
        db_table = "locations_backuplocation"


class Device(models.Model):
    name = models.CharField(max_length=128)
    ip_address = models.CharField(max_length=64)
    enabled = models.BooleanField(default=True)
    backup_location = models.ForeignKey(BackupLocation, null=True, on_delete=models.SET_NULL)

    class Meta:
        app_label = "devices"
        db_table = "devices_device"


class DeviceBackupResult(models.Model):
    task_id = models.CharField(max_length=64, db_index=True)
    task_identifier = models.CharField(max_length=128, db_index=True)
    device = models.ForeignKey(Device, on_delete=models.CASCADE)
    status = models.CharField(max_length=16)
    timestamp = models.DateTimeField()
    log = models.TextField()
    initiated_at = models.DateTimeField(null=True)
    collection_duration_ms = models.IntegerField(null=True)
    overall_duration_ms = models.IntegerField(null=True)

    class Meta:
        app_label = "devices"
        db_table = "devices_devicebackupresult"


class StoredBackup(models.Model):
    task_id = models.CharField(max_length=64, db_index=True)
    task_identifier = models.CharField(max_length=128, db_index=True)
    device = models.ForeignKey(Device, on_delete=models.CASCADE)
    status = models.CharField(max_length=16)
    timestamp = models.DateTimeField()
    log = models.TextField()
    storage_backend = models.CharField(max_length=32)
    storage_ref = models.CharField(max_length=256)
    storage_duration_ms = models.IntegerField(null=True)

    class Meta:
        app_label = "backups"
        db_table = "backups_storedbackup"


MODELS = (BackupLocation, Device, DeviceBackupResult, StoredBackup)


def connect(url: str) -> str:
    """Register a database URL with Django; the answer is the alias for `Model.objects.using(alias)`."""
    parts = urlsplit(url)
    engines = {"postgresql": "postgresql", "mysql": "mysql", "sqlite": "sqlite3"}
    config: dict[str, Any] = {"ENGINE": f"django.db.backends.{engines[parts.scheme]}"}
    name = unquote(parts.path.removeprefix("/"))
    config |= {"NAME": name, "USER": parts.username or "", "PASSWORD": unquote(parts.password or "")}
    config |= {"HOST": parts.hostname or "", "PORT": str(parts.port or "")}
    if parts.scheme == "mysql":
        _pymysql_for_django()
    connections.settings[url] = connections.configure_settings({"default": config})["default"]
    return url


def _pymysql_for_django() -> None:
    """Offer PyMySQL under the name that Django imports, each module once: a second copy has other exceptions."""
    pymysql = import_module("pymysql")
    pymysql.install_as_MySQLdb()
    for name in ("constants", "converters", "cursors", "err"):
        import_module(f"pymysql.{name}")
    for name, module in list(sys.modules.items()):
        if name.startswith("pymysql."):
            sys.modules[name.replace("pymysql", "MySQLdb", 1)] = module


@contextmanager
def connection(url: str) -> Iterator[BaseDatabaseWrapper]:
    """Django's connection to a database, closed and forgotten afterwards."""
    alias = connect(url)
    try:
        yield connections[alias]
    finally:
        connections[alias].close()
        del connections[alias]


def read(url: str, model: type[models.Model] = DeviceBackupResult) -> list[dict[str, Any]]:
    """Every row of the model's table as the Django ORM sees it, in id order."""
    with connection(url):
        return list(model.objects.using(url).order_by("pk").values())


def create(url: str) -> None:
    """Create the tables as Django's migrations would."""
    with connection(url) as django_connection, django_connection.schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)


def describe(url: str) -> dict[str, Any]:
    """Each table's columns (type, size, nullability) and its keys and indexes, without their names."""
    described = {}
    with connection(url) as django_connection, django_connection.cursor() as cursor:
        look = django_connection.introspection
        for table in (model._meta.db_table for model in MODELS):
            columns = {
                column.name: (look.get_field_type(column.type_code, column), column.display_size, column.null_ok)
                for column in look.get_table_description(cursor, table)
            }
            keys = {
                (tuple(key["columns"]), fact)
                for key in look.get_constraints(cursor, table).values()
                for fact in ("primary_key", "unique", "foreign_key", "index")
                if key[fact]
            }
            described[table] = {"columns": columns, "keys": keys}
    return described
