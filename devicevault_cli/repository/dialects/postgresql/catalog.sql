-- What is asked of the catalog. Parameters are psycopg's.

-- server --
-- On a standby the name of the file is NULL: the server would refuse to tell it.
SELECT pg_is_in_recovery(), CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END,
    CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn()::text END,
    current_setting('synchronous_standby_names') <> ''
        AND current_setting('synchronous_commit') NOT IN ('off', 'local')

-- system --
SELECT system_identifier::text FROM pg_control_system()

-- has_standby --
-- Whoever may ask; a standby that is away for a while keeps its slot.
SELECT EXISTS (SELECT FROM pg_stat_replication) OR EXISTS (SELECT FROM pg_replication_slots WHERE slot_type = 'physical')

-- standbys --
-- `sync_state` is NULL for a user without the rights of pg_read_all_stats.
SELECT CASE WHEN current_setting('synchronous_commit') NOT IN ('off', 'local')
    THEN current_setting('synchronous_standby_names') ELSE '' END, count(*), count(sync_state),
    count(*) FILTER (WHERE sync_state IN ('sync', 'quorum') AND state = 'streaming'),
    (SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep')
FROM pg_stat_replication

-- columns --
-- The last column: what the type is called where it treats different texts as equal, by a nondeterministic collation or
-- as citext does. Through to_jsonb, since PostgreSQL 11 has no such column.
SELECT c.relname, a.attname, t.typname, CASE WHEN b.typcategory = 'S' AND b.typname NOT IN ('bpchar', 'name')
    AND (b.typname NOT IN ('text', 'varchar') OR to_jsonb(l) ->> 'collisdeterministic' = 'false')
    THEN format_type(b.oid, NULL) END
FROM unnest(%s::text[]) AS wanted (name)
JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(wanted.name))
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type AS t ON t.oid = a.atttypid
JOIN pg_type AS b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
LEFT JOIN pg_collation AS l ON l.oid = a.attcollation

-- unique_indexes --
SELECT found.id, found.name, found.exact, found.exact AND found.immediate AND CASE
    WHEN %s THEN found.collation = 'C' AND (found.predicate IS NULL OR found.predicate IN
        ('(((task_identifier)::text COLLATE "C") <> ''''::text)', '((task_identifier COLLATE "C") <> ''''::text)'))
    ELSE found.predicate IS NULL OR found.predicate IN
        ('((task_identifier)::text <> ''''::text)', '(task_identifier <> ''''::text)') END
FROM (
    SELECT c.oid::bigint AS id, c.relname AS name, i.indimmediate AS immediate, l.collname AS collation,
        b.typname IN ('text', 'varchar', 'bpchar')
            AND coalesce(to_jsonb(l) ->> 'collisdeterministic', 'true') = 'true' AS exact,
        pg_get_expr(i.indpred, i.indrelid) AS predicate
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = 'task_identifier'
    JOIN pg_type AS t ON t.oid = a.atttypid
    JOIN pg_type AS b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
    LEFT JOIN pg_collation AS l ON l.oid = i.indcollation[0]
    WHERE i.indrelid = to_regclass(quote_ident(%s)) AND i.indisunique AND i.indisvalid
        AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum AND i.indexprs IS NULL
) AS found

-- partitioned --
SELECT 1 FROM pg_class WHERE oid = to_regclass(quote_ident(%s)) AND relkind = 'p'

-- missing_rights --
SELECT wanted.lacks, wanted.name, quote_ident(current_user)
FROM unnest(%s::text[], %s::text[]) AS wanted (lacks, name)
CROSS JOIN LATERAL (SELECT to_regclass(quote_ident(wanted.name)) AS id) AS t
WHERE NOT CASE wanted.lacks WHEN 'DELETE' THEN has_table_privilege(t.id, 'DELETE')
    ELSE has_any_column_privilege(t.id, wanted.lacks) END

-- unusable_sequences --
-- An identity column needs no right on its sequence; the default of a serial one does.
SELECT s.name, quote_ident(current_user)
FROM pg_attribute AS a, pg_get_serial_sequence(a.attrelid::regclass::text, 'id') AS s (name)
WHERE a.attrelid = to_regclass(quote_ident(%s)) AND a.attname = 'id' AND a.attidentity = ''
    AND NOT has_sequence_privilege(s.name, 'USAGE')

-- triggers --
SELECT tgname FROM pg_trigger
WHERE tgrelid = to_regclass(quote_ident(%s)) AND NOT tgisinternal AND tgenabled <> 'D'
    AND tgtype & 5 = 5 AND tgtype & 66 <> 0
ORDER BY tgname

-- diverts --
SELECT 1 FROM pg_class AS c
WHERE c.oid = to_regclass(quote_ident(%s)) AND (c.relkind = 'v'
    OR c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = c.oid))

-- unfilled_columns --
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass(quote_ident(%s)) AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef
    AND attidentity = '' AND attname <> ALL (%s::text[])
ORDER BY attnum

-- columns_of_constraint --
-- A constraint's columns, or an index's, those of its expressions too; of a partition or a child as well. `drawn`: the
-- column is filled by a sequence. A constraint without any column is a row of NULLs.
WITH RECURSIVE ours (id) AS (
    SELECT to_regclass(quote_ident(%(table)s))::oid
    UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN ours ON i.inhparent = ours.id
), named AS (
    SELECT con.conrelid AS rel, unnest(coalesce(con.conkey, '{}') || 0::smallint) AS num
    FROM pg_constraint AS con JOIN ours ON con.conrelid = ours.id WHERE con.conname = %(name)s
    UNION SELECT x.indrelid, unnest(x.indkey::smallint[])
    FROM pg_class AS c JOIN pg_index AS x ON x.indexrelid = c.oid JOIN ours ON x.indrelid = ours.id
    WHERE c.relname = %(name)s
    UNION SELECT x.indrelid, d.refobjsubid::smallint
    FROM pg_class AS c JOIN pg_index AS x ON x.indexrelid = c.oid JOIN ours ON x.indrelid = ours.id
    JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = x.indrelid AND d.refobjsubid > 0
    WHERE c.relname = %(name)s
)
SELECT a.attname, coalesce(a.attidentity <> '' OR pg_get_expr(f.adbin, f.adrelid) LIKE 'nextval(%%', false),
    coalesce(a.attgenerated <> '', false)
FROM named
LEFT JOIN pg_attribute AS a ON a.attrelid = named.rel AND a.attnum = named.num AND a.attnum > 0
LEFT JOIN pg_attrdef AS f ON f.adrelid = a.attrelid AND f.adnum = a.attnum

-- sequences --
WITH key AS (
    SELECT a.attrelid, a.attnum, t.typname FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = to_regclass(quote_ident(%s)) AND a.attname = 'id'
), filling AS (
    SELECT d.objid AS id, key.typname FROM key JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = key.attrelid AND d.refobjsubid = key.attnum
        AND d.deptype = 'i'
    UNION SELECT d.refobjid, key.typname FROM key
    JOIN pg_attrdef AS f ON f.adrelid = key.attrelid AND f.adnum = key.attnum
    JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
        AND d.refclassid = 'pg_class'::regclass
)
SELECT s.seqrelid::regclass::text, s.seqstart, s.seqincrement, s.seqmax, s.seqcycle,
    CASE WHEN has_sequence_privilege(s.seqrelid, 'USAGE, SELECT') THEN pg_sequence_last_value(s.seqrelid) END,
    has_sequence_privilege(s.seqrelid, 'USAGE, SELECT'), has_sequence_privilege(s.seqrelid, 'SELECT'), filling.typname
FROM filling JOIN pg_sequence AS s ON s.seqrelid = filling.id
WHERE s.seqincrement > 0

-- policies --
-- Of each table with row-level security in force, for each command that dvctl uses: which rows are allowed.
WITH policy AS (
    SELECT n.oid AS namespace, p.tablename, p.cmd, p.permissive = 'PERMISSIVE' AS permits,
        p.qual, coalesce(p.with_check, p.qual) AS checked
    FROM pg_policies AS p JOIN pg_namespace AS n ON n.nspname = p.schemaname
    WHERE 'public' = ANY (p.roles) OR EXISTS (
        SELECT FROM unnest(p.roles) AS r (name) JOIN pg_roles ON rolname = r.name
        WHERE pg_has_role(current_user, pg_roles.oid, 'member'))
)
SELECT c.relname, quote_ident(current_user), command, (
    SELECT CASE WHEN bool_or(permits) IS NOT TRUE THEN 'none'
        WHEN bool_or(permits AND condition = 'true') AND NOT bool_or(NOT permits AND condition <> 'true') THEN 'all'
        ELSE 'some' END
    FROM policy, LATERAL (SELECT CASE command WHEN 'SELECT' THEN qual ELSE checked END AS condition) AS l
    WHERE namespace = c.relnamespace AND tablename = c.relname AND cmd IN ('ALL', command)
)
FROM unnest(%s::text[]) AS wanted (name)
JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(wanted.name))
CROSS JOIN (VALUES ('SELECT'), ('INSERT')) AS v (command)
WHERE row_security_active(c.oid) AND (command = 'SELECT' OR c.relname = %s)
ORDER BY c.relname, command DESC

-- end_frozen_holder --
-- Materialized: else the planner may call pg_terminate_backend before it looks at the other conditions.
WITH frozen AS MATERIALIZED (
    SELECT a.pid FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.classid::bigint << 32 | l.objid::bigint) = %(key)s
    AND a.state = 'active' AND a.wait_event = 'ClientRead'
    AND a.state_change < clock_timestamp() - %(frozen_ms)s * interval '1 millisecond'
)
SELECT pid FROM frozen WHERE pg_terminate_backend(pid)
