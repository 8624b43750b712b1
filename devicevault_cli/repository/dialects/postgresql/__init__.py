"""PostgreSQL: the fast path, on psycopg and the pipeline mode of its libpq."""
