"""The message of the storage task, without a broker."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import NAMESPACE_URL, UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from devicevault_cli.broker.envelope import Envelope, plain_message
from devicevault_cli.broker.json_ascii import SHORT
from devicevault_cli.broker.store_task import StoreTask, task_uuid

TASK = StoreTask(
    id=task_uuid("device:results", "1767225600000-0"),
    task_id="87a8ef3a",
    task_identifier="collect:7:2026-01-12T04:47:00+00:00",
    device_id=7,
    backend="git",
    config={"repo_path": "/srv/backups/git", "password": "location-secret"},
    device_config="hostname r7\né ☃\n".encode(),
)


def test_the_body_is_that_of_celery_with_the_keys_in_devicevaults_order() -> None:
    assert TASK.body().decode() == (
        '[[{"task_id": "87a8ef3a", "task_identifier": "collect:7:2026-01-12T04:47:00+00:00", "device_id": 7,'
        ' "storage_backend": "git", "storage_config": {"repo_path": "/srv/backups/git", "password": "location-secret"},'
        ' "device_config": "hostname r7\\n\\u00e9 \\u2603\\n"}], {},'
        ' {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
    )


def test_a_location_without_config_has_an_empty_one() -> None:
    configs: list[object] = [None, {}, [], ""]
    for config in configs:
        [[payload], _, _] = json.loads(replace(TASK, config=config).body())
        assert payload["storage_config"] == {}


def test_encryption_is_asked_for_only_where_devicevault_knows_it() -> None:
    for wanted in (True, False):
        [[payload], _, _] = json.loads(replace(TASK, encrypt=wanted).body())
        assert list(payload)[-1] == "encrypt_backup"
        assert payload["encrypt_backup"] is wanted
    assert b"encrypt_backup" not in TASK.body()


def test_the_envelope_holds_no_secret() -> None:
    assert TASK.headers()["argsrepr"] == "[...]"
    assert "location-secret" not in json.dumps(TASK.headers()) + json.dumps(TASK.properties()) + repr(TASK)
    assert "hostname" not in repr(TASK)


def test_the_id_is_the_same_at_each_dispatch() -> None:
    assert TASK.id == str(uuid5(NAMESPACE_URL, "device:results/1767225600000-0"))
    assert UUID(TASK.id).version == 5
    assert TASK.headers()["root_id"] == TASK.headers()["id"] == TASK.properties()["correlation_id"] == TASK.id
    assert TASK.id != task_uuid("device:results", "1767225600000-1")


AWKWARD = st.one_of(
    st.text().map(str.encode),
    st.text(alphabet=st.characters(max_codepoint=127)).map(str.encode),
    st.sampled_from([b"", b'"device_config": ""', b"\x7f", b"\x00", b"\\", b'\\"', "\u2028\ud7ff\U0010ffff".encode()]),
)


@given(
    text=AWKWARD,
    config=st.dictionaries(st.text(), st.text()),
    encrypt=st.sampled_from([None, True, False]),
    long=st.booleans(),
)
def test_the_body_is_what_json_dumps_writes(
    text: bytes, config: dict[str, str], encrypt: bool | None, long: bool
) -> None:
    if long and text:
        text *= SHORT // len(text) + 1
    config["trap"] = '"device_config": ""'
    task = replace(TASK, device_config=text, config=config, encrypt=encrypt)
    payload = {
        "task_id": task.task_id,
        "task_identifier": task.task_identifier,
        "device_id": 7,
        "storage_backend": "git",
        "storage_config": config,
        "device_config": text.decode(),
    } | ({} if encrypt is None else {"encrypt_backup": encrypt})
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    assert task.body().decode() == json.dumps([[payload], {}, embedded])


def test_the_envelope_is_that_of_py_amqp() -> None:
    envelope = Envelope()
    for number in range(3):
        task = replace(TASK, id=task_uuid("device:results", f"{number}-0"))
        expected = plain_message(task, task.body())._serialize_properties()
        assert envelope.message(task, task.body())._serialize_properties() == expected
