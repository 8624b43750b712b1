"""No password leaves a URL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicevault_cli.redact import UNREADABLE, redact, scrub

SECRET = "S3cr3t"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/1", "redis://localhost:6379/1"),
        ("redis://:S3cr3t@h:6379/1", "redis://:***@h:6379/1"),
        ("redis://S3cr3t@h/1", "redis://***@h/1"),
        ("rediss://u:S3cr3t@h/1?ssl_cert_reqs=none", "rediss://u:***@h/1?ssl_cert_reqs=none"),
        ("unix://:S3cr3t@/run/redis.sock?db=1&password=S3cr3t", "unix://:***@/run/redis.sock?db=1&password=***"),
        ("redis+sentinel://:S3cr3t@a:1,b:2/main/0", "redis+sentinel://:***@a:1,b:2/main/0"),
        ("postgresql://u:S3cr3t@h/d?sslmode=verify-full", "postgresql://u:***@h/d?sslmode=verify-full"),
        ("postgresql://u@h/d?sslpassword=S3cr3t", "postgresql://u@h/d?sslpassword=***"),
        ("postgresql://u:S3/cr@3t@h/d", "postgresql://u:***@h/d"),
        ("sqlite:////srv/db.sqlite3", "sqlite:////srv/db.sqlite3"),
        ("postgresql://u@h/d?pasword=S3cr3t&sslmode=require", "postgresql://u@h/d?pasword=***&sslmode=require"),
        ("redis://h/1?pass%77ord=S3cr3t", "redis://h/1?pass%77ord=***"),
        ("redis://:S3cr3t", UNREADABLE),
        ("redis://user:S3cr3t/1", UNREADABLE),
        ("redis://:a@S3cr3t:b/c@h:port/1", UNREADABLE),
        ("sqlite://S3cr3t", UNREADABLE),
        ("S3cr3t", UNREADABLE),
        ("redis:S3cr3t@h", UNREADABLE),
        ("redis://:S3 cr3t@h", UNREADABLE),
    ],
)
def test_urls_are_shown_without_their_password(url: str, shown: str) -> None:
    assert redact(url) == shown


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.text(max_size=20))
def test_whatever_stands_around_it_the_password_is_not_shown(before: str, after: str) -> None:
    assert SECRET not in redact(f"redis://user:{before}{SECRET}{after}@host:6379/1")


def test_text_loses_urls_and_the_row_that_postgresql_quotes() -> None:
    text = f"cannot reach postgresql://u:{SECRET}@h/d\nDETAIL:  Failing row contains (1, {SECRET},\n {SECRET})."
    assert scrub(text) == "cannot reach postgresql://u:***@h/d"


def test_a_url_within_text_is_found_with_what_stands_around_it() -> None:
    assert (
        scrub(f"see (redis://:{SECRET}@h:1/0), 'rediss://:x@h'. Or")
        == "see (redis://:***@h:1/0), 'rediss://:***@h'. Or"
    )
    assert scrub(f"redis:/:{SECRET}@h/1 cannot be read") == "redis://:***@h/1 cannot be read"
    assert scrub("a path: /srv/x, C:/x, 12:30") == "a path: /srv/x, C:/x, 12:30"
