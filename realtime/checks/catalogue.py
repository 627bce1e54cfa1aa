"""Checks of the database's catalogue: tables, columns, indexes, partitions and policies of the platform."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from queries.migrations.existing import ADDED_COLUMNS, ENCODING, OLDEST_SERVER, READ_COLUMNS
from realtime.checks.finding import Finding, note, problem

#: Columns that a new platform's tables have and that Guardwire does not read.
_SILENT: Final = {"signal_id", "approval_id", "slippage_pips", "pnl_percent", "pip_size"}

_SERVER: Final = """
SELECT current_setting('server_version_num')::integer AS version,
       (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()) AS encoding,
       pg_is_in_recovery() AS in_recovery,
       current_setting('max_prepared_transactions')::integer AS prepared,
       EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE n.nspname = 'guardwire' AND c.relname = 'inbox') AS is_migrated
"""
_TABLES: Final = """
SELECT c.relname AS name, n.nspname AS schema, c.relkind::text AS kind, c.relpersistence::text AS persistence,
       c.relrowsecurity AS has_policies, c.relforcerowsecurity AS forces_policies,
       (SELECT count(*) FROM pg_inherits AS i WHERE i.inhparent = c.oid) AS children
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname = ANY ($1) AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'guardwire')
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""
_COLUMNS: Final = """
SELECT c.relname AS "table", a.attname AS name,
       CASE WHEN t.typtype = 'e' THEN 'enum'
            ELSE format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, NULL) END AS type,
       (SELECT k.castfunc::regprocedure::text FROM pg_cast AS k
        WHERE k.castsource IN (t.oid, t.typbasetype) AND k.casttarget = 'json'::regtype AND k.castfunc <> 0
        LIMIT 1) AS json_cast
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type AS t ON t.oid = a.atttypid
WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY ($1)
"""
_INDEXES: Final = """
SELECT c.relname AS "table", i.indpred IS NULL AS is_whole,
       (SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum) AS columns
FROM pg_class AS c JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisvalid
WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY ($1)
"""
# Whether the policies of a table let a role read every row: one permissive policy for SELECT, for this role or for all
# roles, has a condition that is true.
_POLICIES: Final = """
SELECT c.relname AS "table",
       bool_or(p.polpermissive AND p.polcmd IN ('r', '*') AND pg_get_expr(p.polqual, p.polrelid) = 'true'
               AND (0 = ANY (p.polroles) OR r.oid = ANY (p.polroles))) AS lets_nodes_read
FROM pg_class AS c LEFT JOIN pg_policy AS p ON p.polrelid = c.oid
LEFT JOIN pg_roles AS r ON r.rolname = 'guardwire_server'
WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY ($1) AND c.relrowsecurity
GROUP BY c.relname
"""
_PUBLICATIONS: Final = """
SELECT p.pubname AS name FROM pg_publication AS p
WHERE p.puballtables OR EXISTS (SELECT FROM pg_publication_tables AS t
                                WHERE t.pubname = p.pubname AND t.schemaname = 'guardwire')
"""


@dataclass(frozen=True)
class Catalogue:
    """Facts from pg_catalog; ``tables`` are those of schema public, ``elsewhere`` names tables of the same name
    elsewhere.
    """

    server: Mapping[str, Any]
    tables: Mapping[str, Mapping[str, Any]]
    elsewhere: tuple[str, ...]
    columns: Mapping[tuple[str, str], Mapping[str, Any]]
    indexes: tuple[tuple[str, bool, tuple[str, ...]], ...]
    policies: Mapping[str, bool]
    publications: tuple[str, ...]

    @classmethod
    async def read(cls, connection: Any) -> Catalogue:
        """Read the catalogue of the database behind ``connection`` (asyncpg's)."""
        names = list(READ_COLUMNS)
        tables = await connection.fetch(_TABLES, names)
        columns = await connection.fetch(_COLUMNS, names)
        indexes = await connection.fetch(_INDEXES, names)
        return cls(
            server=dict(await connection.fetchrow(_SERVER)),
            tables={row["name"]: dict(row) for row in tables if row["schema"] == "public"},
            elsewhere=tuple(f"{row['schema']}.{row['name']}" for row in tables if row["schema"] != "public"),
            columns={(row["table"], row["name"]): dict(row) for row in columns},
            indexes=tuple((row["table"], row["is_whole"], tuple(row["columns"] or ())) for row in indexes),
            policies={
                row["table"]: bool(row["lets_nodes_read"]) for row in await connection.fetch(_POLICIES, names)
            },
            publications=tuple(row["name"] for row in await connection.fetch(_PUBLICATIONS)),
        )

    @property
    def is_migrated(self) -> bool:
        """Whether `guardwire migrate` has made the inbox."""
        return bool(self.server["is_migrated"])

    def can_be_read(self, table: str) -> bool:
        """Whether the table exists, with all columns in types that Guardwire can read."""
        return table in self.tables and not any(
            finding.level == "problem"
            for finding in self._of_table(table)
            if finding.check in ("table", "column")
        )

    def has_index(self, table: str, *columns: str) -> bool:
        """Whether an index over all rows begins with these columns."""
        return any(
            name == table and is_whole and found[: len(columns)] == columns
            for name, is_whole, found in self.indexes
        )

    def findings(self) -> Iterator[Finding]:
        """All findings in the catalogue."""
        yield from self._of_server()
        for table in READ_COLUMNS:
            yield from self._of_table(table)

    def _of_server(self) -> Iterator[Finding]:
        version = self.server["version"]
        if version < OLDEST_SERVER:
            yield problem(
                "server", "version", f"the server is PostgreSQL {version // 10_000}; 14 or later is needed"
            )
        if self.server["encoding"] != ENCODING:
            encoding = self.server["encoding"]
            yield problem(
                "server", "encoding", f"the database's encoding is {encoding}; it has to be {ENCODING}"
            )
        if self.server["in_recovery"]:
            yield problem("server", "standby", "this server is a standby; Guardwire needs the primary")
        if self.server["prepared"]:
            sentence = (
                "transactions can be prepared here, so rows do not wake the applier by NOTIFY, and it polls"
            )
            yield note("server", "max_prepared_transactions", sentence)
        for name in self.publications if self.is_migrated else ():
            sentence = f"publication {name} contains schema guardwire: a subscriber with triggers gets every row twice"
            yield problem(
                "publication", name, sentence, "name the tables in it, or FOR TABLES IN SCHEMA public"
            )
        for name in self.elsewhere:
            yield note("table", name, f"{name} is not read: Guardwire reads schema public alone")

    def _of_table(self, table: str) -> Iterator[Finding]:
        found = self.tables.get(table)
        if found is None:
            yield note("table", table, f"public.{table} is not there; `guardwire migrate` makes it")
        elif found["kind"] not in ("r", "p"):
            sentence = f"public.{table} is not a table, so no trigger can copy its rows"
            yield problem("table", table, sentence, "write the rows into a table of that name")
        else:
            yield from self._of_columns(table)
            yield from self._of_indexes(table)
            yield from self._of_kind(table, found)
            yield from self._of_policies(table, found)

    def _of_columns(self, table: str) -> Iterator[Finding]:
        for column, accepted in READ_COLUMNS[table].items():
            held = self.columns.get((table, column))
            if held is None and (table, column) in ADDED_COLUMNS:
                continue
            if held is None:
                yield problem("column", f"{table}.{column}", f"column {column} of public.{table} is missing")
            elif held["type"] not in accepted:
                sentence = (
                    f"column {column} of public.{table} is {held['type']}; it can be {_either(accepted)}"
                )
                yield problem("column", f"{table}.{column}", sentence)
        for (_, column), held in self.columns.items():
            if held["table"] == table and held["json_cast"]:
                sentence = (
                    f"the type of public.{table}.{column} has a cast to json, {held['json_cast']}, which runs inside"
                    " every statement that writes the table: where the cast raises, the statement fails"
                )
                yield note("cast", f"{table}.{column}", sentence)
        yield from self._of_spare_columns(table)
        yield from self._of_narrow_columns(table)

    def _of_spare_columns(self, table: str) -> Iterator[Finding]:
        spare = sorted(
            column
            for name, column in self.columns
            if name == table and column not in READ_COLUMNS[table] and column not in _SILENT
        )
        if spare:
            yield note("column", table, f"not read of public.{table}: {', '.join(spare)}")

    def _of_narrow_columns(self, table: str) -> Iterator[Finding]:
        ticket = self.columns.get((table, "mt5_position_id"))
        if ticket is not None and ticket["type"] in ("integer", "smallint"):
            sentence = f"tickets are {ticket['type']} here, and MT5 gives tickets beyond 2,147,483,647"
            yield note("column", f"{table}.mt5_position_id", sentence, "make the column bigint")
        naive = [
            column
            for (name, column), held in self.columns.items()
            if name == table
            and column in READ_COLUMNS[table]
            and held["type"] == "timestamp without time zone"
        ]
        if naive:
            yield note(
                "column",
                table,
                f"{' and '.join(sorted(naive))} of public.{table} have no zone and are read as UTC",
            )

    def _of_indexes(self, table: str) -> Iterator[Finding]:
        if "id" in READ_COLUMNS[table] and not self.has_index(table, "id"):
            remedy = f"CREATE UNIQUE INDEX CONCURRENTLY {table}_id ON public.{table} (id);"
            yield problem(
                "index", table, f"public.{table} has no index on id, by which rows are found again", remedy
            )
        if table in ("reconciliation_logs", "equity_snapshots") and not self.has_index(
            table, "user_id", "created_at"
        ):
            sentence = (
                f"public.{table} has no index that begins with (user_id, created_at): reading a history and auditing an"
                " account reads all of its rows, or the whole table"
            )
            remedy = f"CREATE INDEX CONCURRENTLY {table}_user_id ON public.{table} (user_id, created_at);"
            yield problem("index", table, sentence, self._concurrently(table, remedy))

    def _concurrently(self, table: str, remedy: str) -> str:
        """PostgreSQL makes no index concurrently on a partitioned table, so each partition gets its index first."""
        if self.tables[table]["kind"] != "p":
            return remedy
        return remedy.replace(" CONCURRENTLY", "") + " -- on each partition first, with CONCURRENTLY"

    def _of_kind(self, table: str, found: Mapping[str, Any]) -> Iterator[Finding]:
        if found["kind"] == "p":
            yield note("partition", table, f"public.{table} has {found['children']} partitions")
        elif found["children"]:
            sentence = (
                f"{found['children']} tables inherit from public.{table} (INHERITS): triggers do not copy rows that are"
                " written into these"
            )
            yield problem(
                "partition", table, sentence, "use partitions (PARTITION BY), or write into the parent"
            )
        if found["persistence"] == "u":
            yield problem("table", table, f"public.{table} is unlogged: a crash empties it without a trace")

    def _of_policies(self, table: str, found: Mapping[str, Any]) -> Iterator[Finding]:
        if not found["has_policies"]:
            return
        remedy = (
            f"CREATE POLICY guardwire_reads ON public.{table} FOR SELECT TO guardwire_server USING (true);"
        )
        if found["forces_policies"]:
            sentence = f"public.{table} forces row level security: history is read without the rows that policies hide"
            yield problem("policy", table, sentence, f"{remedy} -- and one for the owner of schema guardwire")
        elif not self.policies.get(table):
            sentence = (
                f"public.{table} has row level security, and no policy lets guardwire_server read every row"
            )
            yield problem("policy", table, sentence, remedy)
        else:
            yield note(
                "policy",
                table,
                f"public.{table} has row level security; a policy lets guardwire_server read it",
            )


def _either(types: frozenset[str]) -> str:
    return " or ".join(sorted(types))
