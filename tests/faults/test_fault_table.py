"""Which test proves which fault: every row has its proof, and every test that is named exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "reliability.md"
_PROCESS, _LOST = "acceptance/test_consume_process.py", "acceptance/test_lost_replies.py"
_CHAOS, _CONSUMER = "faults/test_chaos.py::test_everything_once", "contract/test_consumer.py"

_DATABASE, _REDIS = "faults/test_database_faults.py", "faults/test_redis_faults.py"
_OTHERS, _RESTARTS = "faults/test_pooled_and_other_databases.py", "faults/test_restarts.py"

PROOF: dict[str, tuple[str, ...]] = {
    "1 killed before COMMIT": (_CHAOS, f"{_PROCESS}::test_one_of_three_is_killed_and_never_comes_back"),
    "2 killed between COMMIT and the acknowledgement": (f"{_RESTARTS}::test_a_death_between_commit_and_xack", _CHAOS),
    "3 frozen for longer than the claim-idle time": (f"{_PROCESS}::test_a_frozen_consumer_takes_nothing_back", _CHAOS),
    "4 a consumer that never returns": (
        f"{_PROCESS}::test_one_of_three_is_killed_and_never_comes_back",
        "faults/test_mutants.py::test_never_reclaiming_is_caught",
        _CHAOS,
    ),
    "5 SIGTERM in a batch, twice, in an outage": (
        f"{_PROCESS}::test_sigterm_under_load",
        f"{_PROCESS}::test_a_second_signal_stops_at_once_and_loses_nothing",
        f"{_PROCESS}::test_sigterm_while_the_database_is_frozen_ends_within_the_grace_period",
        "unit/test_shutdown.py::test_a_handler_in_the_waiting_thread_does_not_wait_for_itself",
    ),
    "6 a reply is lost": (
        f"{_LOST}::test_a_lost_reply_strands_nothing",
        f"{_LOST}::test_a_lost_reply_of_the_dead_letter_script_writes_no_second_letter",
        f"{_LOST}::test_a_lost_answer_to_commit_doubles_nothing",
        _CHAOS,
    ),
    "7 the database is stopped or refuses for a while": (
        f"{_DATABASE}::test_shutting_down_and_starting",
        f"{_DATABASE}::test_too_many_connections",
        f"{_DATABASE}::test_read_only",
        f"{_DATABASE}::test_a_lock_that_another_session_keeps",
        f"{_DATABASE}::test_a_deadlock",
        f"{_DATABASE}::test_a_serialization_failure_and_what_nobody_foresaw",
        f"{_DATABASE}::test_a_full_disk",
        f"{_DATABASE}::test_no_advisory_lock_left",
        f"{_PROCESS}::test_a_database_restart_in_mid_run_loses_nothing",
    ),
    "8 a table, column or right is missing": (
        f"{_DATABASE}::test_the_schema_changes_under_a_running_consumer",
        f"{_DATABASE}::test_the_database_goes_by_another_name",
        f"{_DATABASE}::test_a_serialization_failure_and_what_nobody_foresaw",
        "contract/test_repository.py::test_a_missing_column_is_named_before_and_while_saving",
        "cli/test_rights.py::test_each_missing_grant_is_named_with_its_remedy",
    ),
    "9 one bad row in a batch": (
        f"{_CONSUMER}::test_a_refused_batch_is_split_until_the_culprit_stands_alone",
        f"{_DATABASE}::test_one_row_that_the_database_refuses",
    ),
    "10 a device is deleted between look-up and COMMIT": (
        f"{_DATABASE}::test_a_device_deleted_between_look_up_and_commit",
        "contract/test_repository_mysql.py::test_a_device_deleted_before_commit",
        "contract/test_repository_sqlite.py::test_a_device_deleted_before_commit",
    ),
    "11 an old backend still holds its transaction": (f"{_DATABASE}::test_an_old_backend_still_holds_its_transaction",),
    "12 Redis is killed, or refuses for a while": (
        f"{_PROCESS}::test_redis_killed_and_restarted_on_its_append_only_file",
        f"{_REDIS}::test_while_it_loads_its_file",
        f"{_REDIS}::test_while_it_is_a_replica",
        f"{_REDIS}::test_while_it_cannot_save",
        f"{_REDIS}::test_while_the_cluster_is_down",
        f"{_REDIS}::test_an_answer_that_asks_for_patience",
        _CHAOS,
    ),
    "13 a dead letter cannot be written": (
        f"{_REDIS}::test_while_its_memory_is_full",
        f"{_CONSUMER}::test_a_letter_that_cannot_be_written_is_owed_and_neighbours_go_on",
    ),
    "14 Redis may evict the stream": (f"{_REDIS}::test_a_redis_that_may_evict_the_stream",),
    "15 group or stream is gone": (
        f"{_REDIS}::test_what_it_forgets_while_a_read_blocks",
        f"{_REDIS}::test_a_group_destroyed_while_a_batch_is_in_hand",
        f"{_CONSUMER}::test_a_missing_group_is_created_at_the_beginning",
    ),
    "16 failover to a replica that lags": (
        f"{_REDIS}::test_failover_to_a_replica_that_lags",
        f"{_CONSUMER}::test_a_group_started_again_persists_nothing_and_writes_no_second_letter",
    ),
    "17 entries are deleted while pending": (
        f"{_CONSUMER}::test_what_the_dead_held_is_taken_over_and_what_is_gone_is_cleared",
    ),
    "18 trimmed before it was delivered": (f"{_REDIS}::test_what_was_trimmed_before_delivery_is_reported",),
    "19 Redis's lag is unknown or wrong": (f"{_REDIS}::test_the_lag_is_right_or_unknown",),
    "20 a message that kills the process": (
        f"{_RESTARTS}::test_a_message_that_kills_each_process_that_touches_it",
        f"{_CONSUMER}::test_after_three_deaths_alone_it_is_a_dead_letter",
    ),
    "21 a long outage with many restarts": (
        f"{_RESTARTS}::test_an_outage_with_twenty_restarts_counts_no_delivery",
        f"{_CONSUMER}::test_an_outage_puts_the_delivery_counts_back",
    ),
    "22 packets are swallowed": (
        f"{_REDIS}::test_packets_are_swallowed",
        f"{_OTHERS}::test_the_database_answers_no_more",
        f"{_REDIS}::test_the_socket_waits_longer_than_any_read_blocks",
    ),
    "23 wrong password, missing right": (
        "acceptance/test_everything_once.py::test_a_wrong_password_of_redis",
        "acceptance/test_everything_once.py::test_a_wrong_password_of_postgresql",
        "cli/test_rights.py::test_each_missing_grant_is_named_with_its_remedy",
        f"{_DATABASE}::test_the_schema_changes_under_a_running_consumer",
    ),
    "24 PgBouncer": (f"{_OTHERS}::test_through_pgbouncer_in_transaction_mode",),
    "25 one identity at several consumers": (
        "acceptance/test_everything_once.py::test_eight_consumers_share_identities_that_come_twice",
        "faults/test_mutants.py::test_consuming_without_the_lock_is_caught",
    ),
    "26 SQLite and MariaDB: locked, deadlocked, cut off": (
        f"{_OTHERS}::test_sqlite_with_another_writer",
        f"{_OTHERS}::test_mariadb_waits_too_long_for_a_row",
        f"{_OTHERS}::test_mariadb_ends_a_deadlock",
        f"{_OTHERS}::test_mariadb_loses_the_connection",
        "contract/test_repository_mysql.py::test_a_statement_that_waits_too_long_leaves_nothing_half_done",
    ),
    "27 a changing command dies half way": (
        "contract/test_interrupted.py::test_run_again_it_ends_as_if_nothing_had_happened",
        "contract/test_interrupted.py::test_a_group_is_there_or_its_snapshot_brings_it_back",
    ),
    "28 the disk fills up under a snapshot": (
        "contract/test_groups.py::test_a_full_disk_stops_before_anything_is_destroyed",
        "unit/test_recovery_rows.py::test_a_file_that_cannot_be_finished_leaves_nothing",
    ),
    "29 the world changes between plan and step": (
        "contract/test_groups.py::test_a_plan_that_is_no_longer_true_is_refused",
        "contract/test_groups.py::test_what_changes_between_the_last_look_and_the_step_is_refused_too",
    ),
    "30 the clock jumps": (
        f"{_RESTARTS}::test_a_clock_that_jumps_changes_nothing",
        f"{_RESTARTS}::test_only_what_is_shown_or_stored_reads_the_wall_clock",
    ),
}


def test_every_row_has_its_proof() -> None:
    assert [int(title.split(maxsplit=1)[0]) for title in PROOF] == list(range(1, 31))
    assert all(PROOF.values())


def functions(path: str) -> set[str]:
    """The functions of a test file."""
    tree = ast.parse((TESTS / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", PROOF)
def test_the_named_tests_exist(row: str) -> None:
    for named in PROOF[row]:
        path, _, name = named.partition("::")
        assert name in functions(path), named


def test_the_tests_that_the_document_names_exist() -> None:
    """docs/reliability.md states promises; each paragraph names what shows it."""
    sections = DOCUMENT.read_text().split("\n## ")[1:]
    everywhere = {name for path in TESTS.rglob("test_*.py") for name in functions(str(path.relative_to(TESTS)))}
    for section in sections:
        named = re.findall(r"`(test_\w+)`", section)
        assert named, f"no test is named for: {section.splitlines()[0]}"
        assert set(named) <= everywhere, set(named) - everywhere
