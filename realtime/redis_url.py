"""The address of Redis: one server, the servers of a Redis Cluster, or the Sentinels that know the primary."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

Kind = Literal["server", "cluster", "sentinel"]

SCHEMES: Final[dict[str, Kind]] = {
    "redis": "server", "rediss": "server", "unix": "server",
    "redis+cluster": "cluster", "rediss+cluster": "cluster",
    "redis+sentinel": "sentinel", "rediss+sentinel": "sentinel",
}  # fmt: skip
_PORTS: Final[dict[Kind, int]] = {"server": 6379, "cluster": 6379, "sentinel": 26379}
_SENTINEL_USERNAME: Final = "sentinel_username"
_SENTINEL_PASSWORD: Final = "sentinel_password"  # noqa: S105  # the name of a parameter
_CLUSTER_FORM: Final = "redis+cluster://host:port,host:port"
_SENTINEL_FORM: Final = "redis+sentinel://host:port,host:port/SERVICE/DB"


class HostPort(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class RedisAddress(NamedTuple):
    """Where Redis is; ``server_url`` has everything that holds for each server, in the form that redis-py reads.

    ``hosts`` are servers of the cluster, or the Sentinels; none for a single server. ``service`` is the name by which
    Sentinel knows the primary.
    """

    kind: Kind
    server_url: str
    hosts: tuple[HostPort, ...] = ()
    service: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = None


def read_redis_url(url: str) -> RedisAddress:
    """Where Redis is; raises ValueError with a clause that names the remedy, and no secret of the URL."""
    scheme, _, rest = url.partition("://")
    kind = SCHEMES.get(scheme.lower())
    if kind is None:
        raise ValueError("must start with " + ", ".join(f"{name}://" for name in SCHEMES))
    # urlsplit refuses two IPv6 addresses in one URL.
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    login, at, hosts = authority.rpartition("@")
    parts = urlsplit(rest[len(authority) :])
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    sentinel_username = parameters.pop(_SENTINEL_USERNAME, None)
    sentinel_password = parameters.pop(_SENTINEL_PASSWORD, None)
    if kind != "sentinel" and (sentinel_username or sentinel_password):
        raise ValueError(f"has a login for Sentinel and names none: write {_SENTINEL_FORM}")
    if kind == "server":
        if "," in hosts:
            raise ValueError(
                f"names several servers: write {_CLUSTER_FORM} for a Redis Cluster, or {_SENTINEL_FORM} for Sentinel"
            )
        _read_host(hosts, kind)
        return RedisAddress(kind, url)
    found = tuple(_read_host(host, kind) for host in hosts.split(","))
    service, database = _read_path(kind, parts.path)
    server_url = f"{scheme.partition('+')[0]}://{login}{at}server/{database}"
    if parameters:
        server_url += f"?{urlencode(parameters)}"
    return RedisAddress(kind, server_url, found, service, sentinel_username, sentinel_password)


def _read_host(text: str, kind: Kind) -> HostPort:
    """The host and port in ``text``; a single server may have neither, as `unix://` has none."""
    try:
        parts = urlsplit(f"//{text.strip()}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("has a port that is no number from 1 to 65535") from None
    if port == 0:
        raise ValueError("has a port that is no number from 1 to 65535")
    if kind != "server" and not host:
        form = _CLUSTER_FORM if kind == "cluster" else _SENTINEL_FORM
        raise ValueError(f"has a host without a name: write {form}")
    return HostPort(host or "", port or _PORTS[kind])


def _read_path(kind: Kind, path: str) -> tuple[str, int]:
    """The service and the logical database that the path names; "" and 0 for a cluster."""
    names = [unquote(name) for name in path.split("/")[1:]]
    if kind == "cluster":
        if names not in ([], [""], ["0"]):
            raise ValueError(
                f"names a logical database, and a Redis Cluster has none but 0: write {_CLUSTER_FORM}"
            )
        return "", 0
    service, *database = names or [""]
    if not service:
        raise ValueError(
            f"names no service: write {_SENTINEL_FORM}, with the name that `sentinel monitor` has in Sentinel's"
            " configuration"
        )
    if len(database) > 1 or (database and database[0] and not database[0].isdecimal()):
        raise ValueError(f"has more behind the service than the number of a database: write {_SENTINEL_FORM}")
    return service, int(database[0]) if database and database[0] else 0
