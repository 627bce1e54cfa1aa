"""Each role of the database has its rights, and everything else changes, delays and reveals nothing.

MAY lists all rights. Each role tries every other right in turn. The tests name the roles, the rights and the effects on
others; they find functions, types and names in the database.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import asyncpg
import pytest

from tests.databases import Databases
from tests.hostile.logins import LOCK_MODES, ROLES, SOURCES, WRITES, Logins, Stage, staged

#: For each role, the tables that it may read, insert into, update, delete from and empty, and the functions of
#: schema guardwire that it may call. A role may also lock a table as far as these rights allow.
MAY: Final[dict[str, dict[str, set[str]]]] = {
    "nobody": {},
    "reader": {"SELECT": set(SOURCES)},
    **{f"feed_{table}": {"INSERT": {table}} for table in SOURCES},
    "writer": {right: set(SOURCES) for right in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")},
    "node": {
        "SELECT": {*SOURCES, "guardwire.*"},
        "INSERT": {"guard_limits", "guardwire.revocations"},
        "UPDATE": {"guard_limits", "guardwire.epoch", "guardwire.probe"},
        "DELETE": {"guardwire.revocations"},
        "EXECUTE": {
            "apply", "apply_singly", "backfill_next", "check_surroundings", "copy_reference", "housekeep",
            "inbox_status", "list_accounts", "no_account", "prune", "read_columns", "read_history", "read_ticket",
            "read_user", "release_lease", "renew_lease", "table_of", "take_lease", "unready", "waiting_accounts",
            "acknowledge", "beat", "claim_deliveries", "delete_endpoint", "delivers", "finish_delivery", "leave",
            "put_endpoint", "put_escalation", "redeliver", "release_deliveries", "rotate_secret", "set_arming",
            "snooze", "test_endpoint",
        },
    },
    "copier": {
        "INSERT": {"guardwire.inbox"},
        "EXECUTE": {
            "copy_columns", "copy_of", "copy_value", "is_plain_copy", "is_short", "no_account", "read_columns",
            "read_user", "wake_applier", "wakes_applier",
        },
    },
}  # fmt: skip
#: Errors for statements without the right to them.
REFUSALS: Final = (
    asyncpg.InsufficientPrivilegeError,
    # No session may change this setting, or the role has other members alone.
    asyncpg.CantChangeRuntimeParamError,
)
#: Values at both ends; the first one that the server accepts is used.
_EXTREMES: Final = {
    "bool": ("on", "off"),
    "integer": ("{max}", "{min}", "1"),
    "real": ("{max}", "{min}", "1"),
}
#: Settings that make the server send a session more than its results.
_LOQUACIOUS: Final = """
SET client_min_messages = debug5; SET trace_notify = on; SET plan_cache_mode = force_custom_plan;
SET debug_print_parse = on; SET debug_print_rewritten = on; SET debug_print_plan = on;
SET debug_pretty_print = off; SET plpgsql.extra_warnings = 'all'; SET plpgsql.print_strict_params = on
"""


@pytest.fixture(scope="module")
def logins(databases: Databases, migrated_template: str) -> Iterator[Logins]:
    made = Logins(databases, migrated_template)
    yield made
    made.drop()


@pytest.fixture(params=ROLES)
async def stage(request: pytest.FixtureRequest, databases: Databases, logins: Logins) -> AsyncIterator[Stage]:
    """A stage for each role in turn."""
    url = databases.make(like=logins.template)
    try:
        async with staged(logins, url, request.param) as stage:
            yield stage
    finally:
        databases.drop(url)


async def is_refused(connection: Any, statement: str) -> bool:
    """Whether this login lacks the right to a statement; the effects of the statement are undone."""
    undo = connection.transaction()
    await undo.start()
    try:
        await connection.execute(statement)
    except REFUSALS:
        return True
    except asyncpg.PostgresError:
        # The statement was allowed, and failed for another reason.
        return False
    finally:
        await undo.rollback()
    return False


def may(role: str, right: str, table: str) -> bool:
    """Whether MAY allows this on a table with this full name."""
    listed = MAY[role].get(right, set())
    return bool({table, table.removeprefix("public."), re.sub(r"\..*", ".*", table)} & listed)


async def relations(stage: Stage) -> list[Any]:
    """Tables and sequences of schema guardwire, and the tables of the platform."""
    found: list[Any] = await stage.owner.fetch(
        """SELECT n.nspname || '.' || c.relname AS name, c.relkind::text AS kind,
                  (SELECT quote_ident(a.attname) FROM pg_attribute AS a
                   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = ''
                   ORDER BY a.attnum LIMIT 1) AS "column"
           FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S')
             AND (n.nspname = 'guardwire' OR (n.nspname = 'public' AND c.relname = ANY ($1)))""",
        list(SOURCES),
    )
    assert len(found) > len(SOURCES) + 10
    return found


async def test_a_role_reads_and_writes_the_tables_that_are_listed(stage: Stage) -> None:
    for each in await relations(stage):
        if each["kind"] == "S":
            for statement in (f"SELECT * FROM {each['name']}", f"SELECT nextval('{each['name']}')",
                              f"SELECT setval('{each['name']}', 1)"):  # fmt: skip
                allowed = may(stage.role, "SELECT", each["name"]) and "*" in statement
                assert await is_refused(stage.attacker, statement) or allowed, statement
            continue
        tried = {
            "SELECT": f"SELECT * FROM {each['name']} LIMIT 1",
            "INSERT": f"INSERT INTO {each['name']} DEFAULT VALUES",
            "UPDATE": f"UPDATE {each['name']} SET {each['column']} = DEFAULT",
            "DELETE": f"DELETE FROM {each['name']}",
            "TRUNCATE": f"TRUNCATE {each['name']}",
        }
        for right, statement in tried.items():
            refused = await is_refused(stage.attacker, statement)
            assert refused is not may(stage.role, right, each["name"]), statement
    await stage.others_go_on()
    await stage.is_right()


async def test_a_role_calls_the_functions_that_are_listed(stage: Stage) -> None:
    async with stage.owner.transaction():
        # An empty search path makes PostgreSQL write types with their schema.
        await stage.owner.execute("SET LOCAL search_path = pg_catalog")
        functions = await stage.owner.fetch(_CALLS)
    assert len(functions) > 20
    for each in functions:
        if each["is_trigger"]:
            continue
        listed = each["name"] in MAY[stage.role].get("EXECUTE", set())
        assert await is_refused(stage.attacker, each["call"]) is not listed, each["signature"]
    await stage.others_go_on()
    await stage.is_right()


_CALLS: Final = """
SELECT p.proname AS name, p.oid::regprocedure::text AS signature,
       p.prorettype = 'trigger'::regtype AS is_trigger,
       format('SELECT guardwire.%I(%s)', p.proname,
              (SELECT string_agg('NULL::' || replace(t::regtype::text, 'anyelement', 'integer'), ', ')
               FROM unnest(p.proargtypes) AS t)) AS call
FROM pg_proc AS p WHERE p.pronamespace = 'guardwire'::regnamespace
"""


async def test_what_is_no_business_of_a_session_is_refused(stage: Stage) -> None:
    tried = [
        "CREATE TABLE guardwire.mine ()",
        "CREATE FUNCTION guardwire.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP SCHEMA guardwire CASCADE",
        "ALTER SCHEMA guardwire RENAME TO mine",
        "CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION pg_catalog.ri_fkey_check_ins()",
        "SET session_replication_role = replica",
        "SET ROLE pg_read_all_data",
        "SET ROLE pg_monitor",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/dev/null'",
        "SELECT pg_read_file('PG_VERSION')",
        "SELECT pg_reload_conf()",
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename <> current_user",
        "CREATE EXTENSION dblink",
        "CREATE ROLE mine SUPERUSER",
    ]
    if stage.attacker.get_server_version().major >= 15:
        tried.append("CREATE TABLE public.mine ()")
    for table in (*(f"public.{source}" for source in SOURCES), "guardwire.accounts", "guardwire.inbox"):
        tried += [
            f"ALTER TABLE {table} DISABLE TRIGGER ALL",
            f"ALTER TABLE {table} ADD COLUMN mine int",
            f'CREATE TRIGGER mine AFTER INSERT ON {table} EXECUTE FUNCTION pg_catalog."RI_FKey_check_ins"()',
            f"CREATE RULE mine AS ON INSERT TO {table} DO INSTEAD NOTHING",
            f"CREATE INDEX ON {table} ((1))",
            f"DROP TABLE {table} CASCADE",
            f"COMMENT ON TABLE {table} IS 'mine'",
        ]
    for trigger in await stage.owner.fetch(
        "SELECT t.tgname, c.relnamespace::regnamespace || '.' || c.relname AS on_table"
        " FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal"
    ):
        tried.append(f"DROP TRIGGER {trigger['tgname']} ON {trigger['on_table']}")
    for statement in tried:
        assert await is_refused(stage.attacker, statement), statement
    with pytest.raises(REFUSALS):
        await stage.attacker.execute("ALTER SYSTEM SET trace_notify = on")
    await stage.others_go_on()


async def test_no_setting_changes_what_a_write_does_or_tells_more_than_it_should(stage: Stage) -> None:
    settings = await stage.attacker.fetch(
        "SELECT name, vartype, min_val, max_val, enumvals FROM pg_settings WHERE context = 'user'"
        " AND name NOT IN ('role', 'session_authorization', 'is_superuser', 'client_encoding')"
        # These end the attacker's session and nothing else.
        " AND name NOT IN ('idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')"
    )
    assert len(settings) > 80
    for setting in settings:
        for value in setting["enumvals"] or _EXTREMES.get(setting["vartype"], ("pg_catalog",)):
            extreme = value.format(max=setting["max_val"], min=setting["min_val"])
            await written_with(stage, setting["name"], extreme)
    await stage.others_go_on()
    await stage.is_right()
    assert [said for said in stage.heard for hidden in await stage.secrets() if hidden in said] == []


async def written_with(stage: Stage, name: str, value: str) -> None:
    """One write of the attacker with this setting, for as long as its transaction lasts."""
    with contextlib.suppress(asyncpg.PostgresError):
        async with stage.attacker.transaction():
            await stage.attacker.execute(f"SELECT pg_catalog.set_config('{name}', '{value}', true)")
            await stage.write()


async def test_a_session_that_asks_for_every_trace_hears_nothing_of_the_owners(stage: Stage) -> None:
    await stage.attacker.execute(_LOQUACIOUS)
    for user in (stage.own, stage.other):
        await stage.write(user=user)
    # The second time everything is planned already.
    await stage.write()
    assert stage.heard
    hidden = (await stage.secrets())[:2]
    assert [said for said in stage.heard for each in hidden if each in said] == []
    if stage.role not in ("writer", "feed_reconciliation_logs", "feed_equity_snapshots"):
        # The attacker has written no row of the other account, so nothing of that account may appear.
        assert [said for said in stage.heard if str(stage.other) in said or stage.other.hex in said] == []


async def test_a_forged_setting_neither_adds_rows_to_a_commit_nor_keeps_any_out(stage: Stage) -> None:
    xid = "pg_catalog.pg_current_xact_id()::pg_catalog.text"
    before = await stage.owner.fetchval(_REVISION, stage.other)
    for forged in (
        xid, f"{xid} || E'\\x1f'", f"{xid} || E'\\x1fgu{stage.other}\\x1f'", f"{xid} || E'\\x1f-\\x1f'",
        "''", "'garbage'", f"'gu{stage.other}'",
    ):  # fmt: skip
        for is_local in ("true", "false"):
            for name in ("guardwire.touched", "guardwire.anything"):
                forge = f"SELECT pg_catalog.set_config('{name}', {forged}, {is_local})"
                for immediate in ("", "SET CONSTRAINTS ALL IMMEDIATE;"):
                    async with stage.attacker.transaction():
                        await stage.attacker.execute(immediate + forge)
                        await stage.write()
                        await stage.attacker.execute(forge)
                        await stage.write()
                        await stage.attacker.execute(forge)
    rates_move_all = stage.role in ("writer", "feed_fx_rates")
    if not rates_move_all:
        assert await stage.owner.fetchval(_REVISION, stage.other) == before
    await stage.is_right()


_REVISION: Final = "SELECT revision FROM guardwire.accounts WHERE user_id = $1"


async def test_locks_that_a_role_may_hold_delay_nobody(stage: Stage) -> None:
    await stage.attacker.execute("BEGIN")
    for number in (1735750770, 1735750773, 0x6755_6172, *range(100)):
        await stage.attacker.execute(f"SELECT pg_advisory_lock({number})")
    held = set()
    for each in await relations(stage):
        if each["kind"] == "S" or each["name"].startswith("public."):
            continue
        # The node writes to these three, so it may lock them; neither a commit nor the applier uses them.
        for mode in LOCK_MODES[:1] if each["name"] in _NODE_WRITES else LOCK_MODES:
            if not await is_refused_within(
                stage.attacker, f"LOCK TABLE {each['name']} IN {mode} MODE NOWAIT"
            ):
                await stage.attacker.execute(f"LOCK TABLE {each['name']} IN {mode} MODE NOWAIT")
                held.add((each["name"], mode))
        for row_lock in ("FOR UPDATE", "FOR SHARE", "FOR KEY SHARE"):
            if each["name"] not in _NODE_WRITES:
                assert await is_refused_within(stage.attacker, f"SELECT FROM {each['name']} {row_lock}")
    assert {mode for _, mode in held} <= _MAY_HOLD.get(stage.role, set())
    assert bool(held) is (stage.role in _MAY_HOLD)
    assert stage.role != "copier" or {table for table, _ in held} == {"guardwire.inbox"}
    await stage.others_go_on()
    await stage.is_migrated()
    await stage.others_go_on()
    await stage.attacker.execute("ROLLBACK")
    await stage.attacker.execute("SELECT pg_advisory_unlock_all()")
    await stage.is_right()


#: The modes in which a role may lock tables of schema guardwire; PostgreSQL 15 grants fewer than later releases.
_MAY_HOLD: Final = {"node": {"ACCESS SHARE"}, "copier": {"ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE"}}
_NODE_WRITES: Final = {"guardwire.epoch", "guardwire.probe", "guardwire.revocations"}


async def is_refused_within(connection: Any, statement: str) -> bool:
    """`is_refused`, within a transaction that goes on."""
    await connection.execute("SAVEPOINT within")
    try:
        await connection.execute(statement)
    except REFUSALS:
        return True
    finally:
        await connection.execute("ROLLBACK TO SAVEPOINT within")
    return False


async def test_listening_reveals_no_figures_and_notifying_changes_nothing(stage: Stage) -> None:
    channels = await stage.owner.fetch("SELECT DISTINCT relname AS name FROM pg_class")
    names = {"guardwire", "guardwire_", "public", *(row["name"] for row in channels)}
    heard: list[str] = []
    for name in names:
        await stage.attacker.add_listener(name, lambda _c, _p, _n, payload: heard.append(str(payload)))
        await stage.attacker.execute(f"NOTIFY \"{name}\", 'x'")
    await stage.others_go_on()
    await stage.attacker.execute("SELECT 1")
    figures = [payload for payload in heard if payload != "x"]
    assert figures, "hints are for everybody"
    assert [each for each in figures if not re.fullmatch(r"([0-9a-f-]{36}=\d+,?)+", each)] == []
    await stage.attacker.execute("UNLISTEN *")
    await stage.is_right()


async def test_objects_of_every_name_that_the_capture_uses_are_not_run_as_the_owner(stage: Stage) -> None:
    own = f"own_{stage.name}"
    await stage.attacker.execute(f"SET search_path = {own}, pg_catalog; {_SPY}")
    for statement in await decoys(stage.owner):
        # An object that PostgreSQL refuses to make cannot be called by mistake.
        with contextlib.suppress(asyncpg.PostgresError):
            await stage.attacker.execute(statement)
    made = await stage.owner.fetchval("SELECT count(*) FROM pg_type WHERE typtype = 'd'")
    assert made > 50
    for path in (
        f"{own}, pg_temp, pg_catalog",
        f"{own}, public, guardwire, pg_catalog",
        "pg_temp, pg_catalog",
    ):
        await stage.attacker.execute(f"SET search_path = {path}")
        with contextlib.suppress(asyncpg.RaiseError):
            await stage.write()
            await stage.write()
            async with stage.attacker.transaction():
                await stage.attacker.execute("SET CONSTRAINTS ALL IMMEDIATE")
                await stage.write()
    await stage.attacker.execute("RESET search_path")
    ran_as = await stage.owner.fetch(f"SELECT DISTINCT who FROM {own}.ran")
    assert {row["who"] for row in ran_as} <= {stage.name}
    await stage.others_go_on()
    await stage.is_right()


#: Records the user that runs it, and changes nothing.
_SPY: Final = """
CREATE TABLE ran (who pg_catalog.text); GRANT INSERT ON ran TO PUBLIC;
DO $$ BEGIN
EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA %I TO PUBLIC', pg_catalog.current_schema());
EXECUTE pg_catalog.format($spy$
    CREATE FUNCTION spy() RETURNS pg_catalog.bool LANGUAGE plpgsql AS
    'BEGIN INSERT INTO %I.ran VALUES (current_user); RETURN true; END' $spy$, pg_catalog.current_schema());
END $$
"""


async def decoys(owner: Any) -> list[str]:
    """Statements that make a type, function or operator of each name in the capture's functions."""
    words = set(re.findall(r"[a-z_][a-z0-9_]*", await owner.fetchval(_SOURCE)))
    types = await owner.fetch("SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace"
                              " AND typtype = 'b' AND typelem = 0 AND typcategory <> 'Z'")  # fmt: skip
    functions = await owner.fetch(
        """SELECT DISTINCT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments,
                  format_type(p.prorettype, NULL) AS result
           FROM pg_proc AS p WHERE p.pronamespace = 'pg_catalog'::regnamespace
             AND p.prokind = 'f' AND p.proname = ANY ($1) AND NOT p.proretset""",
        list(words),
    )
    operators = await owner.fetch(
        """SELECT o.oprname, format_type(o.oprleft, NULL) AS of_left,
                  format_type(o.oprright, NULL) AS of_right, format_type(o.oprresult, NULL) AS result
           FROM pg_operator AS o
           WHERE o.oprkind = 'b' AND o.oprname IN ('=', '<>', '||', '>', '<', '>=', '<=', '+', '-', '*')
             AND o.oprleft = ANY ($1::regtype[]) AND o.oprright = ANY ($1::regtype[])""",
        ["text", "numeric", "bigint", "integer", "uuid", "timestamptz", "boolean", "xid8"],
    )
    made = []
    for (name,) in types:
        made += [
            f'CREATE DOMAIN {schema}"{name}" AS pg_catalog."{name}" CHECK (spy())'
            for schema in ("", "pg_temp.")
        ]
    for name, arguments, result in functions:
        made.append(
            f'CREATE FUNCTION "{name}"({arguments}) RETURNS {result} LANGUAGE plpgsql AS'
            " $$ BEGIN PERFORM spy(); RETURN NULL; END $$"
        )
    for number, (name, left, right, result) in enumerate(operators):
        made.append(
            f"CREATE FUNCTION operator_{number}({left}, {right}) RETURNS {result} LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM spy(); RETURN NULL; END $$;"
            f"CREATE OPERATOR {name} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = operator_{number})"
        )
    return made


_SOURCE: Final = """
SELECT string_agg(lower(p.prosrc || coalesce(pg_get_function_sqlbody(p.oid), '')), ' ')
FROM pg_proc AS p WHERE p.pronamespace = 'guardwire'::regnamespace
"""


#: Functions that run as their owner inside the platform's statements. A SET clause would cost each row of the platform,
#: so they qualify every name instead; the test above tries each name.
_WITHOUT_PATH: Final = {"guardwire.copy_row()", "guardwire.note_truncate()"}


async def test_every_function_that_runs_as_its_owner_has_a_search_path_of_its_own(migrated_url: str) -> None:
    connection = await asyncpg.connect(migrated_url)
    try:
        await connection.execute("SET search_path = pg_catalog")
        functions = await connection.fetch(
            """SELECT p.oid::regprocedure::text AS name, p.proconfig AS config FROM pg_proc AS p
               WHERE p.prosecdef
                 AND p.pronamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')"""
        )
    finally:
        await connection.close()
    paths = {
        each["name"]: [entry for entry in each["config"] or () if entry.startswith("search_path=")]
        for each in functions
    }
    assert {paths.pop(name, None) is not None for name in _WITHOUT_PATH} == {True}
    assert len(paths) > 10
    assert {name: path for name, path in paths.items() if path != ["search_path=pg_catalog, pg_temp"]} == {}


def test_every_role_that_writes_is_one_of_the_matrix() -> None:
    assert set(MAY) == set(ROLES)
    assert {role: set(tables) for role, tables in WRITES.items()} == {
        role: {table for table in rights.get("INSERT", ()) if "." not in table}
        for role, rights in MAY.items()
        if any("." not in table for table in rights.get("INSERT", ()))
    }
