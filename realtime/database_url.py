"""PostgreSQL's addresses as providers write them: with parameters of libpq, of which asyncpg knows some."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

#: Parameters that asyncpg reads itself.
_DRIVER: Final = frozenset({
    "host", "port", "user", "password", "passfile", "database", "dbname", "sslmode", "sslcert", "sslkey", "sslrootcert",
    "sslcrl", "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs",
    "krbsrvname", "gsslib", "service", "servicefile", "sslnegotiation",
})  # fmt: skip
#: Settings of a session, which asyncpg passes on to the server; `options=-c…` carries every other one.
_SESSION: Final = frozenset({
    "application_name", "options", "search_path", "statement_timeout", "lock_timeout", "timezone", "work_mem", "jit",
    "idle_in_transaction_session_timeout", "plan_cache_mode", "default_transaction_isolation",
    "default_transaction_read_only",
})  # fmt: skip
#: Parameters of libpq that are taken and left out, with the values for which that is right; None for all values.
#: Guardwire has time limits of its own and notices dead connections; the other values ask for what asyncpg does anyway.
_LEFT_OUT: Final[dict[str, frozenset[str] | None]] = {
    "connect_timeout": None,
    "tcp_user_timeout": None,
    "keepalives": None,
    "keepalives_idle": None,
    "keepalives_interval": None,
    "keepalives_count": None,
    "fallback_application_name": None,
    "sslcompression": frozenset({"0"}),
    "sslsni": frozenset({"1"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "channel_binding": frozenset({"disable", "prefer"}),
    "load_balance_hosts": frozenset({"disable"}),
    "client_encoding": frozenset({"utf8", "utf-8", "auto"}),
}


def without_parameters_of_libpq(url: str) -> str:
    """The address without those parameters that only libpq knows and that change nothing here."""
    parts = urlsplit(url)
    asked = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in asked if not _is_left_out(name, value)]
    return url if kept == asked else parts._replace(query=urlencode(kept)).geturl()


def refused_parameters(url: str) -> Iterator[str]:
    """A clause for each parameter of the address that cannot be followed, without its value, which may be secret."""
    for name, value in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if name in _LEFT_OUT and not _is_left_out(name, value):
            taken = " or ".join(sorted(_LEFT_OUT[name] or ()))
            yield f"has the parameter {name} with a value that the driver cannot follow; leave it out, or say {taken}"
        elif name not in _DRIVER | _SESSION | _LEFT_OUT.keys() and "." not in name:
            setting = f"options=-c%20{name}%3D…"
            yield f"has the parameter {name}, which is unknown here; write a setting of the session as {setting}"


def _is_left_out(name: str, value: str) -> bool:
    taken = _LEFT_OUT.get(name, frozenset())
    return taken is None or value.lower() in taken
