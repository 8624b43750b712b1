"""Which test proves which fault: every row has its proof, and every test that is named exists."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
_PROCESS, _LOST = "acceptance/test_consume_process.py", "acceptance/test_lost_replies.py"
_CHAOS, _CONSUMER = "faults/test_chaos.py::test_everything_once", "contract/test_consumer.py"

PROOF: dict[str, tuple[str, ...]] = {
    "1 killed before COMMIT": (_CHAOS, f"{_PROCESS}::test_one_of_three_is_killed_and_never_comes_back"),
    "2 killed between COMMIT and the acknowledgement": (_CHAOS,),
    "3 frozen for longer than the claim-idle time": (f"{_PROCESS}::test_a_frozen_consumer_takes_nothing_back", _CHAOS),
    "4 a consumer that never returns": ("faults/test_mutants.py::test_never_reclaiming_is_caught", _CHAOS),
    "5 SIGTERM in a batch, twice, in an outage": (
        f"{_PROCESS}::test_sigterm_under_load",
        f"{_PROCESS}::test_a_second_signal_stops_at_once_and_loses_nothing",
        f"{_PROCESS}::test_sigterm_while_the_database_is_frozen_ends_within_the_grace_period",
    ),
    "6 a reply is lost": (
        f"{_LOST}::test_a_lost_reply_strands_nothing",
        f"{_LOST}::test_a_lost_reply_of_the_dead_letter_script_writes_no_second_letter",
        _CHAOS,
    ),
    "7 the database is stopped or refuses for a while": (
        f"{_PROCESS}::test_a_database_restart_in_mid_run_loses_nothing",
    ),
    "8 a table, column or right is missing": (
        "acceptance/test_everything_once.py::test_a_missing_table",
        "contract/test_repository.py::test_a_missing_column_is_named_before_and_while_saving",
        "cli/test_rights.py::test_each_missing_grant_is_named_with_its_remedy",
    ),
    "9 one bad row in a batch": (f"{_CONSUMER}::test_a_refused_batch_is_split_until_the_culprit_stands_alone",),
    "12 Redis is killed and restarted on its file": (
        f"{_PROCESS}::test_redis_killed_and_restarted_on_its_append_only_file",
        _CHAOS,
    ),
    "13 a dead letter cannot be written": (
        f"{_CONSUMER}::test_a_letter_that_cannot_be_written_is_owed_and_neighbours_go_on",
    ),
    "15 group or stream is gone": (f"{_CONSUMER}::test_a_missing_group_is_created_at_the_beginning",),
    "16 acknowledgements are forgotten": (
        f"{_CONSUMER}::test_a_group_started_again_persists_nothing_and_writes_no_second_letter",
    ),
    "17 entries are deleted while pending": (
        f"{_CONSUMER}::test_what_the_dead_held_is_taken_over_and_what_is_gone_is_cleared",
    ),
    "20 a message that kills the process": (f"{_CONSUMER}::test_after_three_deaths_alone_it_is_a_dead_letter",),
    "21 a long outage with many restarts": (f"{_CONSUMER}::test_an_outage_puts_the_delivery_counts_back",),
    "23 wrong password, missing right": (
        "acceptance/test_everything_once.py::test_a_wrong_password_of_redis",
        "acceptance/test_everything_once.py::test_a_wrong_password_of_postgresql",
        "cli/test_rights.py::test_each_missing_grant_is_named_with_its_remedy",
    ),
    "25 one identity at several consumers": (
        "acceptance/test_everything_once.py::test_eight_consumers_share_identities_that_come_twice",
        "faults/test_mutants.py::test_consuming_without_the_lock_is_caught",
    ),
    "27 a changing command dies half way": (
        "contract/test_interrupted.py::test_run_again_it_ends_as_if_nothing_had_happened",
    ),
    "28 the disk fills up under a snapshot": (
        "contract/test_groups.py::test_a_full_disk_stops_before_anything_is_destroyed",
        "unit/test_recovery_rows.py::test_a_file_that_cannot_be_finished_leaves_nothing",
    ),
    "29 the world changes between plan and step": (
        "contract/test_groups.py::test_a_plan_that_is_no_longer_true_is_refused",
        "contract/test_groups.py::test_what_changes_between_the_last_look_and_the_step_is_refused_too",
    ),
}

WITHOUT_PROOF: dict[str, str] = {
    "10 a device is deleted between look-up and COMMIT": "not provoked on a server yet; the second look is code",
    "11 an old backend still holds the lock": "only by chance: chaos freezes consumers and the whole PostgreSQL",
    "14 Redis may evict the stream": "the warning at start is code without a test",
    "18 trimmed before it was delivered": "verify tells losses from rows; the gap itself is not provoked",
    "19 Redis's lag is unknown or wrong": "the conditions are code without a test on each version",
    "22 packets are swallowed": "the timeouts are set; half a minute of silence is too long for each test run",
    "24 PgBouncer": "none on the machines that run the tests; only transaction-level locks and settings are used",
    "26 SQLite locked, MySQL's lock timeouts": "the errors are told apart in code; no writer holds the lock in a test",
    "30 the clock jumps": "intervals are monotonic; moving the machine's clock in a test would hurt others",
}


def test_every_row_has_its_proof_or_a_reason() -> None:
    numbers = [int(title.split()[0]) for title in (*PROOF, *WITHOUT_PROOF)]
    assert sorted(numbers) == list(range(1, 31))
    assert all(PROOF.values())
    assert all(WITHOUT_PROOF.values())


@pytest.mark.parametrize("row", PROOF)
def test_the_named_tests_exist(row: str) -> None:
    for named in PROOF[row]:
        path, _, name = named.partition("::")
        tree = ast.parse((TESTS / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, named
