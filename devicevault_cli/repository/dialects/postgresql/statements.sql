-- The statements of the fast path. Names in braces are filled in by statements.py. Parameters are arrays: one carries a
-- column of a whole batch. `e` is a row that exists, `r` a record of the batch.

-- settings --
-- Sets up the transaction inside it, since PgBouncer may give the next one another session.
-- Whatever the size of the table and whatever the statistics say, an identity has to be looked up by an index scan: a
-- batch beside a small or never analyzed table would otherwise read the whole of it. With a custom plan the planner
-- would copy the arrays, megabytes of logs, several times over.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
    set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
    set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true),
    set_config('lock_timeout', '{lock_ms}', true), set_config('statement_timeout', '{statement_ms}', true),
    set_config('idle_in_transaction_session_timeout', '{idle_ms}', true)

-- insert_new --
-- Inserts the records whose identity has no row yet and whose device exists, and returns their identities. They are
-- looked up with a unique index too: a conflict would use up a value of the sequence, which may end at 2,147,483,647.
-- Each array is unnested in the select list, not in FROM: there the rows would be stored and read again, 10 % of the
-- backend's time. OFFSET 0 keeps the arrays from being unnested anew for each expression.
INSERT INTO {table} ({columns})
SELECT {columns} FROM (SELECT {arrays} OFFSET 0) AS r
WHERE NOT {exists} AND (SELECT d.id FROM devices_device AS d WHERE d.id = r.device_id) IS NOT NULL{guarded}
{on_conflict}
RETURNING {returned}

-- exists_named --
-- OFFSET 0 keeps the planner from making a join of it, whose order it would choose by statistics.
EXISTS (SELECT FROM {table} AS e WHERE {by_task_identifier} OFFSET 0)

-- exists_unnamed --
-- Rows without an identifier may be millions, with one device many: so by task_id, where there is one. `+ 0` and
-- length() keep the other indexes out of it.
CASE WHEN r.task_id <> '' THEN
    EXISTS (SELECT FROM {table} AS e WHERE {by_task_id} AND e.device_id + 0 = r.device_id
    AND e.timestamp = r.timestamp AND {same_status} AND {same_log} AND length(e.task_identifier) = 0 OFFSET 0)
ELSE
    EXISTS (SELECT FROM {table} AS e WHERE e.device_id = r.device_id AND length(e.task_id) = 0
    AND e.timestamp = r.timestamp AND {same_status} AND {same_log} AND length(e.task_identifier) = 0 OFFSET 0)
END

-- unique_index --
-- Without ON CONFLICT, which costs an eighth of the backend's time, nothing but the index keeps other writers from
-- inserting the same identifiers: so nothing is inserted once it is dropped. The table is locked before this is looked
-- at, and the index cannot be dropped before the transaction ends.
 AND (SELECT i.indisvalid FROM pg_index AS i WHERE i.indexrelid = {index})

-- set_durations --
-- After stored backups were written: the time from the start of a collection to its storage, in its newest row.
-- timestamp + interval '0', not the column: for that the planner may walk an index on it from its end.
WITH written AS (
{write}
), timed AS (
    UPDATE devices_devicebackupresult AS t
    SET overall_duration_ms = floor(extract(epoch FROM ended.timestamp - t.initiated_at) * 1000)
    FROM (
        SELECT r.timestamp, (
            SELECT e.id FROM devices_devicebackupresult AS e WHERE {by_task_identifier}
            ORDER BY e.timestamp + interval '0' DESC, e.id DESC LIMIT 1
        ) AS id FROM written AS r WHERE r.status = 'success'
    ) AS ended
    WHERE t.id = ended.id
        AND floor(extract(epoch FROM ended.timestamp - t.initiated_at) * 1000) BETWEEN 0 AND 2147483647
)
SELECT task_identifier FROM written

-- replace_failed --
-- Lets stored backups take the place of failed ones, and returns their identities. Parameters: an array for each column
-- and the ids of the rows. A row that another writer has replaced meanwhile stays.
UPDATE {table} AS e SET {assignments}
FROM unnest({arrays}) AS r ({columns}, row_id)
WHERE e.id = r.row_id AND e.{status} <> 'success'
RETURNING {returned}

-- find_unmatched --
-- Parameters: identifiers, device ids, statuses. Rows: number of the record from 1, for each row of another device or
-- status, and once without any row. A join, since an aggregate of the rows of each record costs a fifth more.
SELECT r.n FROM (
    SELECT unnest($1) AS task_identifier, unnest($2) AS device_id, unnest($3) AS status,
        generate_subscripts($1, 1) AS n OFFSET 0
) AS r
LEFT JOIN {table} AS e ON {by_task_identifier}
WHERE (e.device_id = r.device_id AND {same_status}) IS NOT TRUE

-- find_named --
-- Parameter: identifiers. Rows: number of the record from 1, id, device_id, status.
SELECT r.n, e.id, e.device_id, e.status
FROM unnest($1) WITH ORDINALITY AS r (task_identifier, n) JOIN {table} AS e ON {by_task_identifier}
ORDER BY e.id

-- find_unnamed --
-- Parameters: device ids, task ids, timestamps, statuses, logs. Rows as above.
SELECT r.n, e.id, e.device_id, e.status
FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY AS r (device_id, task_id, timestamp, status, log, n)
CROSS JOIN LATERAL (
    SELECT e.id, e.device_id, e.status FROM {table} AS e
    WHERE r.task_id <> '' AND {by_task_id} AND e.device_id + 0 = r.device_id
    AND e.timestamp = r.timestamp AND {same_status} AND {same_log} AND length(e.task_identifier) = 0
    UNION ALL
    SELECT e.id, e.device_id, e.status FROM {table} AS e
    WHERE r.task_id = '' AND e.device_id = r.device_id AND length(e.task_id) = 0
    AND e.timestamp = r.timestamp AND {same_status} AND {same_log} AND length(e.task_identifier) = 0
) AS e
ORDER BY e.id
