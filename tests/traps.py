"""Functions and operators of a stranger in schema public, each a better match for arguments than PostgreSQL's own.

Before PostgreSQL 15 every login may make such functions, and a server that was upgraded keeps it so. PostgreSQL takes
the function whose arguments match best, in whichever schema of the session's search_path it is.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.queries.database_writer import connected

ROOT: Final = Path(__file__).parents[1]
_SOURCES: Final = ("auth", "queries", "realtime")
_OPERATORS: Final = (
    "+",
    "-",
    "*",
    "/",
    "%",
    "=",
    "<>",
    "<",
    ">",
    "<=",
    ">=",
    "||",
    "->",
    "->>",
    "@>",
    "?",
    "~",
)
_TYPES: Final = (
    *(
        "text",
        "name",
        "varchar",
        '"char"',
        "bool",
        "int2",
        "int4",
        "int8",
        "numeric",
        "float8",
        "oid",
        "xid8",
    ),
    *("uuid", "timestamptz", "interval", "json", "jsonb", "regclass", "regnamespace", "int2vector"),
    *("text[]", "uuid[]", "int8[]", "public.reconciliation_logs"),
)
#: The types from which a value is turned into an argument of the first type without a cast.
_NEARBY: Final = {
    "text": ("name", "varchar", '"char"'),
    "int4": ("int2",),
    "int8": ("int4", "int2"),
    "numeric": ("int4", "int8"),
    "float8": ("int4", "int8", "numeric"),
    "oid": ("regclass", "regnamespace", "regproc"),
}
_COUNT: Final = """
CREATE SEQUENCE public.calls;
CREATE TABLE public.called (by text, name text);
GRANT ALL ON public.called, public.calls TO PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC;
"""
# Rows of `called` may be rolled back; a number of a sequence is not.
_MAKE: Final = """
CREATE FUNCTION public.lay(name text, arguments text, result text, returns_set boolean) RETURNS boolean
LANGUAGE plpgsql AS $lay$
BEGIN
    EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql SET search_path = pg_catalog AS '
                   '$body$ BEGIN PERFORM nextval(''public.calls''); '
                   'INSERT INTO public.called VALUES (current_user, %L); %s END $body$',
                   name, arguments, CASE WHEN returns_set THEN 'SETOF ' ELSE '' END || result,
                   name || '(' || arguments || ')', CASE WHEN returns_set THEN 'RETURN;' ELSE 'RETURN NULL;' END);
    RETURN true;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END
$lay$;
CREATE FUNCTION public.lay_operator(name text, one text, other text) RETURNS boolean LANGUAGE plpgsql AS $lay$
DECLARE
    made text := 'operator ' || one || ' ' || name || ' ' || other;
    result text := CASE WHEN name IN ('=', '<>', '<', '>', '<=', '>=', '@>', '?', '~') THEN 'boolean'
                        WHEN name IN ('->', '->>') THEN 'text' ELSE one END;
BEGIN
    IF NOT public.lay(made, one || ', ' || other, result, false) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE OPERATOR public.%s (FUNCTION = public.%I, LEFTARG = %s, RIGHTARG = %s)',
                   name, made, one, other);
    RETURN true;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END
$lay$;
"""
_LAY_OPERATORS: Final = """
SELECT count(*) FILTER (WHERE public.lay_operator(o.name, a.name, b.name))
FROM unnest($1::text[]) AS o (name), unnest($2::text[]) AS a (name), unnest($2::text[]) AS b (name)
WHERE NOT EXISTS (SELECT FROM pg_operator AS p WHERE p.oprname = o.name AND p.oprleft = to_regtype(a.name)
                                                 AND p.oprright = to_regtype(b.name))
"""
_FUNCTIONS: Final = """
SELECT p.proname::text AS name, p.proretset AS returns_set, p.prorettype::regtype::text AS result,
       p.provariadic <> 0 AS is_variadic,
       ARRAY(SELECT t.type::regtype::text FROM unnest(p.proargtypes) WITH ORDINALITY AS t (type, nth)
             ORDER BY nth) AS types
FROM pg_proc AS p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.proname = ANY ($1)
  AND p.pronargs BETWEEN 1 AND 4
"""
_LAY: Final = """
SELECT count(*) FILTER (WHERE public.lay(w.name, w.arguments, w.result, w.returns_set))
FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[]) AS w (name, arguments, result, returns_set)
"""
_MOST_OF_ONE: Final = 60


class Traps:
    """The functions of one stranger, and who called them."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    async def calls(self) -> list[str]:
        """The calls since the last time that this was asked, as `login: function`; empty when there was none."""
        rows = await self._owner.fetch("DELETE FROM public.called RETURNING by, name")
        number = await self._owner.fetchval(
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.calls"
        )
        await self._owner.execute("ALTER SEQUENCE public.calls RESTART")
        found = sorted({f"{row['by']}: {row['name']}" for row in rows})
        return found or [f"{number} calls in transactions that were rolled back"] * bool(number)


async def lay_traps(database_url: str, role: str) -> None:
    """Lets the login ``role`` make the functions; it is made where it is missing, and the caller drops it."""
    async with connected(database_url) as owner:
        await owner.execute("SET search_path = pg_catalog")
        if await owner.fetchval("SELECT to_regrole($1) IS NULL", role):
            await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
        await owner.execute(_COUNT)
    parts = urlsplit(database_url)
    address = parts.netloc.rpartition("@")[2]
    stranger_url = parts._replace(netloc=f"{role}:secret@{address}").geturl()
    async with connected(stranger_url, server_settings={"search_path": "pg_catalog"}) as stranger:
        await stranger.execute(_MAKE)
        assert await stranger.fetchval(_LAY_OPERATORS, _OPERATORS, _TYPES) > 1000
        wanted = list(_better(await stranger.fetch(_FUNCTIONS, sorted(_words()))))
        assert await stranger.fetchval(_LAY, *map(list, zip(*wanted, strict=True))) > 300


@contextlib.asynccontextmanager
async def watched(database_url: str) -> AsyncIterator[Traps]:
    """The stranger's functions in this database, with the logins that call them, while the context lasts."""
    async with connected(database_url, server_settings={"search_path": "pg_catalog"}) as owner:
        yield Traps(owner)


def stranger_name() -> str:
    """A name of a login that no other test uses."""
    return f"stranger_{secrets.token_hex(4)}"


def _words() -> set[str]:
    """Each word before a bracket in the sources: among these are all functions that a statement calls."""
    files = (
        path for folder in _SOURCES for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".sql")
    )
    return {word for path in files for word in re.findall(r"\b([a-z]\w*) ?\(", path.read_text("utf-8"))}


def _better(functions: list[Any]) -> Iterator[tuple[str, str, str, bool]]:
    """Functions whose arguments match some calls better than PostgreSQL's: name, arguments, result, is a set."""
    for each in functions:
        versions = set(_versions(each["types"], is_variadic=each["is_variadic"])) - {tuple(each["types"])}
        for types in sorted(versions)[:_MOST_OF_ONE]:
            result = each["result"]
            if result.startswith("any"):
                result = types[0].removesuffix("[]") + "[]" * (result.endswith("array"))
            yield each["name"], ", ".join(types), result, each["returns_set"]


def _versions(types: list[str], *, is_variadic: bool) -> Iterator[tuple[str, ...]]:
    if is_variadic:
        first = types[:-1]
        for one in _TYPES:
            yield (*first, one)
            yield (*first, one, one)
            yield (*first, "text", one)
            yield (*first, "text", one, "text", one)
    elif any(each.startswith("any") for each in types):
        for one in _TYPES:
            if not one.endswith("[]"):
                yield tuple(_element(each, one) for each in types)
    else:
        for place, each in enumerate(types):
            for nearby in _NEARBY.get(_SHORT.get(each, each), ()):
                yield (*types[:place], nearby, *types[place + 1 :])
                yield tuple(nearby if other == each else other for other in types)


_SHORT: Final = {
    "integer": "int4", "bigint": "int8", "double precision": "float8", "smallint": "int2"
}  # fmt: skip


def _element(wanted: str, one: str) -> str:
    if not wanted.startswith("any"):
        return wanted
    return f"{one}[]" if wanted.endswith("array") else one
