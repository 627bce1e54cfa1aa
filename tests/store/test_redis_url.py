"""How REDIS_URL is read, and what a wrong one is answered."""

from __future__ import annotations

import pytest

from realtime.errors import ConfigurationError
from realtime.redis_url import HostPort, RedisAddress, read_redis_url
from realtime.store.redis_pool import connect

READ = {
    "redis://:secret@cache:6379/3": RedisAddress("server", "redis://:secret@cache:6379/3"),
    "rediss://cache?ssl_ca_certs=/ca.pem": RedisAddress("server", "rediss://cache?ssl_ca_certs=/ca.pem"),
    "unix:///run/redis.sock?db=2": RedisAddress("server", "unix:///run/redis.sock?db=2"),
    "redis+cluster://a:7000,b": RedisAddress(
        "cluster", "redis://server/0", (HostPort("a", 7000), HostPort("b", 6379))
    ),
    "rediss+cluster://node:s%40crt@[::1]:7000,[::2]:7001/0?ssl_ca_certs=%2Fca.pem": RedisAddress(
        "cluster",
        "rediss://node:s%40crt@server/0?ssl_ca_certs=%2Fca.pem",
        (HostPort("::1", 7000), HostPort("::2", 7001)),
    ),
    "redis+sentinel://:secret@a,b:26380/prime/2?sentinel_username=eye&sentinel_password=p%26q": RedisAddress(
        "sentinel", "redis://:secret@server/2", (HostPort("a", 26379), HostPort("b", 26380)), "prime", "eye", "p&q"
    ),
    "rediss+sentinel://a/prime": RedisAddress(
        "sentinel", "rediss://server/0", (HostPort("a", 26379),), "prime"
    ),
}  # fmt: skip
WRONG = {
    "cache:6379": "must start with redis://, rediss://, unix://, redis+cluster://",
    "redis-cluster://a": "must start with",
    "redis://:secret@a:1,b:2": "write redis+cluster://host:port,host:port for a Redis Cluster",
    "redis://a:70000": "port that is no number from 1 to 65535",
    "redis+cluster://:secret@a:x": "port that is no number from 1 to 65535",
    "redis+cluster://a:0": "port that is no number from 1 to 65535",
    "redis+cluster://a,:7000": "write redis+cluster://host:port,host:port",
    "redis+cluster://:secret@a/3": "a Redis Cluster has none but 0",
    "redis+cluster://a?sentinel_password=secret": "write redis+sentinel://",
    "redis+sentinel://:secret@a,b": "names no service: write redis+sentinel://host:port,host:port/SERVICE/DB",
    "redis+sentinel://a/prime/two": "number of a database",
    "redis+sentinel://a/prime/2/3": "number of a database",
    "redis+sentinel:///prime": "a host without a name",
}


@pytest.mark.parametrize("url", READ)
def test_an_address_is_read(url: str) -> None:
    assert read_redis_url(url) == READ[url]


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_address_is_answered_with_the_remedy_and_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        connect(url)
    (problem,) = raised.value.problems
    assert problem.startswith("REDIS_URL ")
    assert WRONG[url] in problem
    assert "secret" not in problem
