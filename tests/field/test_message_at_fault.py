"""The database refuses one message: a dead letter, and its neighbours are saved. It refuses all: held, and taken back.

Field case 4, the other side: evidence decides, and where it misleads a circuit breaker limits the damage.
"""

from __future__ import annotations

import logging
import re

import pytest
import redis

from tests.cli.conftest import Cli
from tests.field.broken_tables import run
from tests.support.daemon import consuming
from tests.support.messages import Message, good, publish
from tests.support.oracle import TABLE, assert_everything, beside, held, settled
from tests.support.rows import read_rows

pytestmark = pytest.mark.usefixtures("short_waits")


def refusing(url: str, column: str, pattern: str, name: str = "guard") -> tuple[str, str]:
    """The statement that forbids a pattern in a column, and the one that allows it again."""
    if url.startswith("sqlite"):
        refuse = f"WHEN NEW.{column} LIKE '{pattern}' BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        return f"CREATE TRIGGER {name} BEFORE INSERT ON {TABLE} {refuse}", f"DROP TRIGGER {name}"
    check = f"CHECK ({column} NOT LIKE '{pattern}')"
    return f"ALTER TABLE {TABLE} ADD CONSTRAINT {name} {check}", f"ALTER TABLE {TABLE} DROP CONSTRAINT {name}"


def letters(redis_url: str) -> list[dict[bytes, bytes]]:
    with redis.Redis.from_url(redis_url) as client:
        return [fields for _, fields in client.xrange(beside("device:results", "dead"))]


def partial(number: int = 1, reason: str | None = "database-rejected") -> Message:
    fields = good(1, seed=90 + number)[0].fields
    return Message(fields | {b"status": b"partial-secret"}, reason)


@pytest.mark.parametrize("batch_size", [1000, 1])
def test_one_bad_message_spares_its_neighbours(
    redis_url: str,
    database_url: str,
    batch_size: int,
    cli: Cli,
    caplog: pytest.LogCaptureFixture,
) -> None:
    forbid, allow = refusing(database_url, "status", "partial%")
    run(database_url, forbid)
    with consuming(redis_url, database_url, batch_size=batch_size) as daemon:
        daemon.publish([*good(15, seed=2), partial(), *good(15, seed=3)])
        daemon.all_once()
    [letter] = letters(redis_url)
    code = {"sqlite": b"19", "mysql": b"4025"}.get(database_url.partition(":")[0], b"23514")
    assert code in letter[b"_dvctl.detail"]
    assert b"guard" in letter[b"_dvctl.detail"] or database_url.startswith("sqlite")
    assert b"secret" not in letter[b"_dvctl.detail"]
    assert "secret" not in caplog.text
    assert cli.at(redis_url, database_url)("doctor", "-o", "json").code == 0
    run(database_url, allow)
    assert cli.at(redis_url, database_url)("dlq", "retry", "--all", "--yes", "-o", "json").json["persisted"] == 1
    assert len(read_rows(database_url)) == 31


def test_a_trigger_that_refuses_one_message_spares_its_neighbours(redis_url: str, postgres_url: str) -> None:
    """A plain RAISE EXCEPTION (P0001) is an outage only where it meets the test row too."""
    run(
        postgres_url,
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.status LIKE 'partial%' THEN RAISE EXCEPTION 'no %', NEW.status; END IF; RETURN NEW; END $$",
        f"CREATE TRIGGER guard BEFORE INSERT ON {TABLE} FOR EACH ROW EXECUTE FUNCTION f()",
    )
    with consuming(redis_url, postgres_url) as daemon:
        daemon.publish([*good(5, seed=2), partial(), *good(5, seed=3)])
        daemon.all_once()
    [letter] = letters(redis_url)
    assert b"P0001" in letter[b"_dvctl.detail"]
    assert b"secret" not in letter[b"_dvctl.detail"]


def test_a_rule_that_only_real_messages_keep_is_no_fault_of_the_table(redis_url: str, postgres_url: str) -> None:
    """The test row offends against this CHECK; a copy of the newest row does not."""
    with consuming(redis_url, postgres_url) as daemon:
        daemon.publish(good(5, seed=1))
        daemon.wait_settled()
        run(
            postgres_url,
            f"ALTER TABLE {TABLE} ADD CONSTRAINT real CHECK (task_identifier LIKE 'collect:%:1:%') NOT VALID",
        )
        strange = good(1, seed=9)[0].fields | {b"task_identifier": b"elsewhere"}
        daemon.publish([*good(5, seed=1, start=50), Message(strange, "database-rejected")])
        daemon.all_once()


# --- every message is refused, the test row is not


@pytest.mark.parametrize(("batch_size", "most_letters"), [(5, 10), (1, 9)])
def test_a_table_that_rejects_whole_batches_is_held_and_taken_back(
    redis_url: str,
    database_url: str,
    batch_size: int,
    most_letters: int,
    cli: Cli,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """0x4d is the seed of these messages, and begins their task ids."""
    forbid, allow = refusing(database_url, "task_id", "0000004d-%")
    with consuming(redis_url, database_url, batch_size=batch_size) as daemon:
        daemon.publish(good(20, seed=2))
        daemon.wait_settled()
        run(database_url, forbid)
        daemon.publish(good(40, seed=77))
        daemon.wait_deferred(2)
        assert len(letters(redis_url)) == most_letters
        undo = told_to_type(caplog)
        sent = daemon.sent
    with consuming(redis_url, database_url, batch_size=batch_size, name="restarted") as daemon, held(redis_url):
        daemon.worker._reader._claim_idle_ms = 1  # what the first one held
        daemon.wait_deferred(2)
    assert len(letters(redis_url)) == most_letters, "a restart counts anew"
    with consuming(redis_url, database_url, batch_size=batch_size, claim_idle_s=0.2) as daemon:
        daemon.wait_deferred(1)
        run(database_url, allow)
        daemon.wait_settled()
    assert len(letters(redis_url)) == most_letters
    answer = cli.at(redis_url, database_url)(*undo, "-o", "json")
    assert answer.json["persisted"] == most_letters, answer.err
    assert_everything(redis_url, database_url, sent)


def told_to_type(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The command that the alarm names."""
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    found = re.search(r"`dvctl (dlq retry --reason database-rejected --since [^ ]+ --yes)`", told[-1])
    assert found, told[-1]
    return found[1].split()


def test_one_accepted_message_of_a_held_batch_proves_the_others_bad(redis_url: str, database_url: str) -> None:
    forbid, allow = refusing(database_url, "task_id", "0000004d-%")
    narrower, _ = refusing(database_url, "task_id", "0000004d-0000001%", "narrower")
    run(database_url, forbid)
    with consuming(redis_url, database_url, batch_size=6) as daemon:
        daemon.publish([Message(each.fields, "database-rejected") for each in good(12, seed=77)])
        # 0x10 to 0x1f are bad in truth, the others only as long as the rule is too wide.
        rest = [*good(3, seed=77, start=13), *good(4, seed=77, start=16), *good(8, seed=77, start=32)]
        daemon.publish([Message(one.fields, "database-rejected" if 3 <= n < 7 else None) for n, one in enumerate(rest)])
        daemon.wait_deferred(2)
        before = settled(redis_url)
        assert before.dead == 12
        run(database_url, narrower, allow)
        daemon.all_once()


def test_who_knows_that_all_messages_are_bad_goes_on(redis_url: str, postgres_url: str, cli: Cli) -> None:
    forbid, _ = refusing(postgres_url, "task_id", "0000004d-%")
    run(postgres_url, forbid)
    with redis.Redis.from_url(redis_url) as client:
        publish(client, good(40, seed=77))
    answer = cli.at(redis_url, postgres_url)(
        "consume", "--drain", "--batch-size", "5", "--max-rejected-batches", "0", "-o", "json"
    )
    assert (answer.code, answer.json["dead_lettered"]) == (0, 40)
