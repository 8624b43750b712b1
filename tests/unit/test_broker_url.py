"""Broker URLs: what Celery's forms mean, fail-over lists, and that no message repeats one."""

from __future__ import annotations

import pytest

from devicevault_cli.broker.url import parse_broker_url, redact_urls
from devicevault_cli.errors import BadConfig


@pytest.mark.parametrize(
    ("url", "host", "port", "user", "password", "place"),
    [
        ("amqp://", "localhost", 5672, "guest", "guest", "/"),
        ("amqp://guest:guest@localhost:5672//", "localhost", 5672, "guest", "guest", "/"),
        ("pyamqp://u:p%40ss@rabbit/", "rabbit", 5672, "u", "p@ss", "/"),
        ("amqp://u@rabbit:5673/backups", "rabbit", 5673, "u", "guest", "backups"),
        ("amqps://u:p@[::1]/a%2Fb", "::1", 5671, "u", "p", "a/b"),
        ("redis://", "localhost", 6379, "", "", "0"),
        ("rediss://:p@r:6380/3", "r", 6380, "", "p", "3"),
        ("redis+socket:///run/redis.sock?virtual_host=2", "localhost", 6379, "", "", "2"),
        ("amqp://u:p@h/v?heartbeat=30&connection_timeout=3", "h", 5672, "u", "p", "v"),
    ],
)
def test_the_parts_are_those_that_celery_reads(
    url: str, host: str, port: int, user: str, password: str, place: str
) -> None:
    [address] = parse_broker_url(url)
    assert (address.host, address.port, address.user, address.password, address.place) == (
        *(host, port, user, password, place),
    )
    assert address.socket == ("/run/redis.sock" if "socket" in url else "")


@pytest.mark.parametrize("separator", [";", "; ", ","])
def test_a_list_means_fail_over(separator: str) -> None:
    first, second = parse_broker_url(f"amqp://u:p@one/v{separator}amqp://two:5673/v")
    assert (first.host, second.host, second.port) == ("one", "two", 5673)


def test_tls_is_verified_unless_the_url_says_otherwise() -> None:
    [verified] = parse_broker_url("amqps://h/?ssl_ca_certs=/ca.pem")
    assert (verified.tls, verified.verify, verified.check_hostname, verified.ca_certs) == (True, True, True, "/ca.pem")
    [trusting] = parse_broker_url("rediss://h/0?ssl_cert_reqs=CERT_NONE")
    assert (trusting.tls, trusting.verify, trusting.check_hostname) == (True, False, False)
    [named] = parse_broker_url("amqps://h/?ssl_check_hostname=false")
    assert (named.verify, named.check_hostname) == (True, False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3cret",
        "sqs://s3cret@",
        "amqp://u:s3cret@h:port/",
        "amqp://u:s3cret/x@h/",
        "amqp://u:s3cret@h/\n",
        "amqp://u:s3cret @h/",
        "redis://:s3cret@h/db",
        "redis://:s3cret@h/99999999999x",
        "amqp://u:s3cret@h/;redis://h/0",
        "rediss://:s3cret@h/0?ssl_cert_reqs=perhaps",
        "amqp://u:s3cret#x@h/",
    ],
)
def test_what_cannot_be_read_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadConfig) as refused:
        parse_broker_url(url)
    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in (refused.value.hint or "").replace("PASSWORD", "")


def test_neither_name_nor_repr_holds_a_password() -> None:
    [address] = parse_broker_url("amqp://user:s3cret@h/v")
    assert address.shown == "RabbitMQ h:5672/v"
    assert "s3cret" not in repr(address)
    assert redact_urls("amqp://u:s3cret@a/v;amqp://u:s3cret@b/v") == "amqp://u:***@a/v;amqp://u:***@b/v"
