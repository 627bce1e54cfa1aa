"""Settings: read from the environment once, at the root, and reported all at once when they cannot work.

Parts receive plain keyword-only values; nothing below `app.py` and the command line reads the environment.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from realtime.database_url import refused_parameters, without_parameters_of_libpq
from realtime.errors import ConfigurationError
from realtime.redis_url import read_redis_url

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Count = Annotated[int, msgspec.Meta(ge=1)]
#: Between two fetches of the same document lie 3 s at least, and a key withdrawn is believed until the next.
RefreshSeconds = Annotated[float, msgspec.Meta(ge=5, le=3600)]
#: Clients take 15 s without a frame for a lost connection, and a heartbeat may come late.
HeartbeatSeconds = Annotated[float, msgspec.Meta(ge=0.5, le=10)]
SecondsOrOff = Annotated[float, msgspec.Meta(ge=0, le=86_400)]


_TOKEN_PATH: Final = re.compile(r"/(?!/)[A-Za-z0-9._~%/?&=-]*")


class Setting(msgspec.Struct, frozen=True):
    """Where one setting is read from, and what it means."""

    variable: str
    meaning: str


class NodeTiming(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds that no operator sets; a test may pass others.

    ``sweep``: how often the revisions of all watched accounts are compared. ``stale``: without a completed sweep for
    this long, clients get `stale`. ``hello``: how long a socket may take to authenticate.
    """

    sweep_seconds: float = 1.0
    stale_seconds: float = 2.0
    hello_seconds: float = 5.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set; the names in the environment and their meanings stand in `SETTINGS`."""

    mode: Literal["production", "development"] = "production"
    database_url: str = ""
    listen_database_url: str = ""
    primary_url: str = ""
    relay_url: str = ""
    database_pooled: bool = False
    database_pool_size: Count = 4
    redis_url: str = ""
    fanout: Literal["direct", "relay"] = "direct"
    host: str = "127.0.0.1"
    port: Port = 8000
    data_folder: Path | None = None
    server_binaries: Literal["any", "installed", "wheels"] = "any"
    jwt_secret: str = ""
    jwks_url: str = ""
    jwks_refresh_seconds: RefreshSeconds = 300.0
    jwt_issuer: str = ""
    jwt_audience: tuple[str, ...] = ()
    token_url: str = ""
    allowed_origins: tuple[str, ...] = ()
    heartbeat_seconds: HeartbeatSeconds = 5.0
    send_deadline_seconds: Seconds = 10.0
    ping_seconds: Seconds = 20.0
    audit_seconds: SecondsOrOff = 10.0
    max_sockets_per_user: Count = 10
    max_anonymous_sockets: Count = 1000
    max_anonymous_sockets_per_address: Count = 100
    trusted_proxies: tuple[str, ...] = ()
    graphql: Literal["off", "on"] = "off"
    webhook_allow_private: bool = False
    watchdog_url: str = ""
    node: str = ""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "json"
    log_connections: bool = False
    timing: NodeTiming = NodeTiming()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses to listen on."""
        return tuple(filter(None, (host.strip() for host in self.host.split(","))))

    @property
    def jwt_secrets(self) -> tuple[str, ...]:
        """The HS256 secrets, the newest first; none where tokens are verified with published keys alone."""
        return tuple(filter(None, (secret.strip() for secret in self.jwt_secret.split(","))))


#: Where each field of `Settings` is read from, and what it means. The documentation's table is made from this.
# fmt: off
SETTINGS: Final[Mapping[str, Setting]] = {
    "mode": Setting("GUARDWIRE_MODE", "`production` (default) or `development`; conveniences such as demo tokens exist only in the latter"),
    "database_url": Setting("DATABASE_URL", "PostgreSQL of the platform, `postgresql://user:password@host:port/name`; required by `serve`. Parameters of libpq that change nothing here (`connect_timeout`, `keepalives…`, `channel_binding=prefer`) are taken and left out, others are refused by name"),
    "listen_database_url": Setting("LISTEN_DATABASE_URL", "direct connection for LISTEN where DATABASE_URL goes through a pooler; default DATABASE_URL"),
    "primary_url": Setting("GUARDWIRE_PRIMARY_URL", "PostgreSQL's primary, where DATABASE_URL is a standby of it ([regions](docs/regions.md)): the node reads the standby and writes to the primary"),
    "relay_url": Setting("GUARDWIRE_RELAY_URL", "Redis of the primary's region, or a replica of it, where DATABASE_URL is a standby and the nodes at the primary have GUARDWIRE_FANOUT=relay: the node hears of changes there; the number of the database is that of their REDIS_URL"),
    "database_pooled": Setting("DATABASE_POOLED", "`1` when DATABASE_URL is a transaction pooler such as pgbouncer: no prepared statements are kept"),
    "database_pool_size": Setting("GUARDWIRE_DATABASE_POOL_SIZE", "connections to PostgreSQL besides the listener's"),
    "redis_url": Setting("REDIS_URL", "Redis or Valkey, `redis://host:port/db`, a [Redis Cluster](#redis), `redis+cluster://host:port,host:port`, or Sentinel, `redis+sentinel://host:port,host:port/SERVICE/DB`; without it snapshots are kept in memory only"),
    "fanout": Setting("GUARDWIRE_FANOUT", "how changes reach the nodes: `direct` (default), by PostgreSQL's NOTIFY to every node, or `relay`, by [channels of Redis](#many-nodes) to the nodes that watch the account; needs REDIS_URL"),
    "host": Setting("GUARDWIRE_HOST", "address to listen on, or several, comma-separated (`127.0.0.1,::1`)"),
    "port": Setting("GUARDWIRE_PORT", "port to listen on; 0 takes a free one"),
    "data_folder": Setting("GUARDWIRE_DATA", "folder for the demo's databases and the development key"),
    "server_binaries": Setting("GUARDWIRE_SERVER_BINARIES", "where the demo and the tests find PostgreSQL and Redis: `installed` on this machine, the `wheels` of the lock file, or `any` (default: installed, else wheels)"),
    "jwt_secret": Setting("GUARDWIRE_JWT_SECRET", "HS256 key, at least 32 random bytes; or use GUARDWIRE_JWKS_URL. During a [rotation](docs/rotation.md) several, comma-separated, the newest first: a token may be signed with any of them"),
    "jwks_url": Setting("GUARDWIRE_JWKS_URL", "where the identity provider publishes its RS256, ES256 or EdDSA keys"),
    "jwks_refresh_seconds": Setting("GUARDWIRE_JWKS_REFRESH_SECONDS", "how often those keys are read again, 5 to 3600: for so long a key that was withdrawn may still be believed"),
    "jwt_issuer": Setting("GUARDWIRE_JWT_ISSUER", "the `iss` that a token must carry"),
    "jwt_audience": Setting("GUARDWIRE_JWT_AUDIENCE", "comma-separated; a token's `aud` must name one of them"),
    "token_url": Setting("GUARDWIRE_TOKEN_URL", "path at which the dashboard gets its [token](docs/installing.md#tokens-for-the-dashboard), such as `/session/token`, served by you at the same origin; without it the dashboard asks for one in a form"),
    "allowed_origins": Setting("GUARDWIRE_ALLOWED_ORIGINS", "comma-separated origins of other sites, or of apps (`capacitor://localhost`), whose pages may connect; the server's own is always allowed"),
    "heartbeat_seconds": Setting("GUARDWIRE_HEARTBEAT_SECONDS", "a heartbeat is sent when nothing else was for this long, 0.5 to 10: clients take 15 s without a frame for a lost connection"),
    "send_deadline_seconds": Setting("GUARDWIRE_SEND_DEADLINE_SECONDS", "a socket that takes nothing for this long is closed with 4010"),
    "ping_seconds": Setting("GUARDWIRE_PING_SECONDS", "how often a quiet socket is pinged; it is closed with 4009 after twice that without a sign of life"),
    "audit_seconds": Setting("GUARDWIRE_AUDIT_SECONDS", "how often one watched account is compared with a reduction of its raw log; 0 turns it off"),
    "max_sockets_per_user": Setting("GUARDWIRE_MAX_SOCKETS_PER_USER", "sockets that one user may hold, across nodes while Redis is up"),
    "max_anonymous_sockets": Setting("GUARDWIRE_MAX_ANONYMOUS_SOCKETS", "sockets that may be open on a node before they said whose they are, and as many connections of each kind: without a whole request, with a handshake that is not decided, and idle between two requests; beyond it handshakes without a token get 503, and the oldest of those connections are cut"),
    "max_anonymous_sockets_per_address": Setting("GUARDWIRE_MAX_ANONYMOUS_SOCKETS_PER_ADDRESS", "of those, how many may come from one address (of IPv6: one /64); beyond it 429. Behind a proxy set GUARDWIRE_TRUSTED_PROXIES, else all come from the proxy"),
    "trusted_proxies": Setting("GUARDWIRE_TRUSTED_PROXIES", "comma-separated addresses or networks of the proxies in front, whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed; none are without it"),
    "graphql": Setting("GUARDWIRE_GRAPHQL", "`on` serves [GraphQL](docs/graphql.md) at `/graphql`; it needs `guardwire[graphql]`"),
    "webhook_allow_private": Setting("GUARDWIRE_WEBHOOK_ALLOW_PRIVATE", "`1` lets alerts go to private addresses too, and webhooks to `http://`; without it they go to public addresses alone. Services that give machines their credentials are never called"),
    "watchdog_url": Setting("GUARDWIRE_WATCHDOG_URL", "called each minute while this node [does its whole work](#the-watchdog); give it to a service that reports when the calls end"),
    "node": Setting("GUARDWIRE_NODE", "name of this node in its log lines; default the machine's name and the port"),
    "log_level": Setting("GUARDWIRE_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR"),
    "log_format": Setting("GUARDWIRE_LOG_FORMAT", "`json` for machines or `text` for people; `demo` writes text"),
    "log_connections": Setting("GUARDWIRE_LOG_CONNECTIONS", "`1` writes lines at level INFO when a WebSocket or event stream begins, is closed by this node, or has ended, with its user and session"),
}
# fmt: on


#: Settings of former releases that are constants now, and the value of each.
FORMER_SETTINGS: Final[Mapping[str, str]] = {
    "GUARDWIRE_AUDIT_ROWS": "1,000",
    "GUARDWIRE_HELLO_SECONDS": "5",
    "GUARDWIRE_MAX_FRAMES_PER_SECOND": "10",
    "GUARDWIRE_MAX_FRAME_BYTES": "16,384",
    "GUARDWIRE_STALE_SECONDS": "2",
    "GUARDWIRE_SWEEP_SECONDS": "1",
}


def ignored(environment: Mapping[str, str]) -> list[str]:
    """A warning for each variable in ``environment`` that a former release read and this one does not."""
    return [
        f"{name} is ignored: it is no setting any more, and always {value}. Remove it from the environment."
        for name, value in FORMER_SETTINGS.items()
        if environment.get(name, "").strip()
    ]


def read(environment: Mapping[str, str], **overrides: Any) -> Settings:
    """Settings from ``environment``, with ``overrides`` by field name on top; raises ConfigurationError with all problems."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    types = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    for name, setting in SETTINGS.items():
        text = environment.get(setting.variable, "").strip()
        if name in overrides or not text:
            continue
        raw: Any = tuple(filter(None, re.split(r"[,\s]+", text))) if types[name] == tuple[str, ...] else text
        try:
            values[name] = msgspec.convert(raw, types[name], strict=False, dec_hook=_path)
        except msgspec.ValidationError as error:
            problems.append(f"{setting.variable}={text!r}: {str(error).lower()}; it is {setting.meaning}.")
    for name in {"database_url", "listen_database_url", "primary_url"} & values.keys():
        url = values[name]
        try:
            problems += [f"{SETTINGS[name].variable} {clause}." for clause in refused_parameters(url)]
            values[name] = without_parameters_of_libpq(url)
        except ValueError:
            problems.append(f"{SETTINGS[name].variable} is no URL.")
    known = {setting.variable for setting in SETTINGS.values()} | FORMER_SETTINGS.keys()
    problems += [
        f"{name} is not a setting; did you mis-spell one of those in OPERATIONS.md?"
        for name in sorted(environment)
        if name.startswith("GUARDWIRE_") and name not in known
    ]
    if problems:
        raise ConfigurationError(problems)
    return Settings(**values, **overrides)


def _path(kind: type, text: str) -> Path:
    """Convert ``text`` to a type that msgspec does not know; a path is the only one among the settings."""
    assert kind is Path
    return Path(text)


def check_production(settings: Settings) -> None:
    """Raise ConfigurationError with everything that keeps ``settings`` from serving in production."""
    problems = [
        f"{SETTINGS[name].variable} is not set: {SETTINGS[name].meaning}."
        for name in ("database_url", "jwt_issuer", "jwt_audience")
        if not getattr(settings, name)
    ]
    if settings.mode != "production":
        problems.append("GUARDWIRE_MODE is not production: `guardwire serve` runs in production mode only.")
    if not settings.jwt_secrets and not settings.jwks_url:
        problems.append(
            "Neither GUARDWIRE_JWT_SECRET nor GUARDWIRE_JWKS_URL is set: there would be no way to verify a token."
        )
    for name in ("database_url", "listen_database_url", "primary_url"):
        problems += _url_problems(name, getattr(settings, name), ("postgresql", "postgres"))
    problems += _redis_problems(settings.redis_url)
    problems += _url_problems("relay_url", settings.relay_url, ("redis", "rediss", "unix"))
    if settings.relay_url and not settings.primary_url:
        problems.append(
            "GUARDWIRE_RELAY_URL is set, and GUARDWIRE_PRIMARY_URL is not: only a node at a standby hears a relay elsewhere."
        )
    problems += fanout_problems(settings)
    for name in ("jwks_url", "watchdog_url"):
        problems += _url_problems(name, getattr(settings, name), ("https", "http"))
    problems += _proxy_problems(settings.trusted_proxies)
    problems += graphql_problems(settings)
    if settings.token_url and not _TOKEN_PATH.fullmatch(settings.token_url):
        problems.append(
            "GUARDWIRE_TOKEN_URL must be a path of the dashboard's own origin, such as /session/token, and no address elsewhere."
        )
    if not settings.hosts:
        problems.append(
            "GUARDWIRE_HOST holds no address: 127.0.0.1 is the default, 0.0.0.0 is every IPv4 address."
        )
    if "*" in settings.allowed_origins:
        problems.append("GUARDWIRE_ALLOWED_ORIGINS may not hold *: name each origin.")
    if problems:
        raise ConfigurationError(problems)


def fanout_problems(settings: Settings) -> list[str]:
    """The problem of a relay without Redis or with several servers of it, if there is one."""
    if settings.fanout != "relay":
        return []
    if not settings.redis_url:
        return ["GUARDWIRE_FANOUT is relay, and REDIS_URL is not set: the relay publishes to Redis."]
    if _redis_problems(settings.redis_url) or read_redis_url(settings.redis_url).kind == "server":
        return []
    return [
        (
            "GUARDWIRE_FANOUT is relay, and REDIS_URL names a Redis Cluster or Sentinel: the relay needs one address,"
            " redis://host:port/db. Give that of a single server or of a proxy that leads to the primary, or set"
            " GUARDWIRE_FANOUT=direct."
        )
    ]


def graphql_problems(settings: Settings) -> list[str]:
    """The sentence about GraphQL that is on without its package; nothing where all is well."""
    if settings.graphql == "off" or importlib.util.find_spec("graphql") is not None:
        return []
    return [
        "GUARDWIRE_GRAPHQL is on, and its package is not installed: install guardwire[graphql], or the packages of requirements-graphql.lock, or unset it."
    ]


def _proxy_problems(proxies: tuple[str, ...]) -> list[str]:
    problems = []
    for proxy in proxies:
        try:
            ip_network(proxy)
        except ValueError:
            problems.append(
                f"GUARDWIRE_TRUSTED_PROXIES holds {proxy!r}, which is no address and no network such as 10.0.0.0/8."
            )
    return problems


def _redis_problems(url: str) -> list[str]:
    try:
        if url:
            read_redis_url(url)
    except ValueError as error:
        return [f"{SETTINGS['redis_url'].variable} {error}."]
    return []


def _url_problems(name: str, url: str, schemes: tuple[str, ...]) -> list[str]:
    # The value is not repeated: a URL may hold a password.
    if not url or urlsplit(url).scheme in schemes:
        return []
    return [f"{SETTINGS[name].variable} must start with {' or '.join(scheme + '://' for scheme in schemes)}."]
