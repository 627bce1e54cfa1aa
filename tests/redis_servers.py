"""Real servers of Redis that watch each other: a cluster of three primaries with a replica each, and Sentinels."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Self

from redis.asyncio import Redis as Client
from redis.exceptions import RedisError

from realtime.embedded.account import ServerAccount, server_account
from realtime.embedded.child import Child
from realtime.embedded.folder import OwnedFolder, free_port
from realtime.embedded.programs import find_redis
from realtime.embedded.redis import CONFIGURATION, Redis
from realtime.redis_url import HostPort

SERVICE: Final = "guardwire"
#: A server that is silent for so long has failed, in the eyes of the others.
SILENCE_MS: Final = 1000
_SLOTS: Final = 16384
_PRIMARIES: Final = 3
_READY_SECONDS: Final = 30.0

_OF_A_PAIR: Final = """\
masterauth {password}
repl-diskless-sync-delay 0
repl-ping-replica-period 1
"""
_OF_A_CLUSTER: Final = """\
cluster-enabled yes
cluster-port {bus}
cluster-node-timeout {silence}
cluster-require-full-coverage no
cluster-replica-validity-factor 0
cluster-allow-replica-migration no
"""
_OF_A_SENTINEL: Final = """\
bind 127.0.0.1
port {port}
dir {folder}
requirepass {password}
sentinel sentinel-pass {password}
sentinel monitor {service} 127.0.0.1 {primary} 2
sentinel auth-pass {service} {primary_password}
sentinel down-after-milliseconds {service} {silence}
sentinel failover-timeout {service} 2000
"""


class Server(Redis):
    """One server in a folder of its own, with further lines of configuration."""

    def __init__(self, account: ServerAccount, password: str, more: str) -> None:
        super().__init__(find_redis(account), account=account, owned=OwnedFolder.make_throwaway(account))
        self._password = password
        self._more = more
        self.folder = self._owned.path / "files"
        self.folder.mkdir()
        account.give(self.folder)

    @property
    def address(self) -> HostPort:
        return HostPort("127.0.0.1", self.port)

    async def ask(self, *command: Any) -> Any:
        """The answer of this server alone."""
        async with Client(
            host="127.0.0.1", port=self.port, password=self._password, socket_timeout=5, decode_responses=True
        ) as client:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def until(self, condition: Callable[[Any], bool], *command: Any) -> None:
        """Wait until the answer to ``command`` fulfils ``condition``."""
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                with contextlib.suppress(RedisError, OSError):
                    if condition(await self.ask(*command)):
                        return
                await asyncio.sleep(0.02)

    async def believes_in_owner_of(self, slot: int) -> bool:
        """Whether this server of a cluster knows an owner of ``slot``."""
        ranges = await self.ask("CLUSTER SLOTS")
        return any(first <= slot <= last for first, last, *_ in ranges)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.pid is not None
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End the server with SIGKILL."""
        self.send(signal.SIGKILL)
        self.end()

    def give_up(self) -> None:
        """End the server, and remove its files."""
        if self.pid is not None:
            self.send(signal.SIGCONT)
        self.end()
        self._owned.release()

    def _spawn_server(self) -> Child:
        lines = CONFIGURATION.format(port=self.port, password=self._password)
        return self._spawn(["-"], stdin=f"{lines}dir {self.folder}\n{self._more}")

    def _spawn(self, arguments: list[str], *, stdin: str = "") -> Child:
        return Child.spawn(
            [str(self._program), *arguments], account=self._account, log=self._log, held_fd=self._owned.lock_fd,
            death_signal=signal.SIGTERM, stdin=stdin,
        )  # fmt: skip


class SentinelServer(Server):
    """One Sentinel, which keeps its configuration in a file."""

    def __init__(self, account: ServerAccount, password: str, primary: Server) -> None:
        super().__init__(account, password, "")
        self._primary = primary

    def _spawn_server(self) -> Child:
        path = self.folder / "sentinel.conf"
        path.write_text(
            _OF_A_SENTINEL.format(
                port=self.port, folder=self.folder, password=self._password, service=SERVICE, silence=SILENCE_MS,
                primary=self._primary.port, primary_password=self._primary._password,
            )
        )  # fmt: skip
        self._account.give(path)
        return self._spawn([str(path), "--sentinel"])


class Group:
    """Servers that are started and given up together; in the main thread only."""

    def __init__(self) -> None:
        self.account = server_account()
        self.password = secrets.token_hex(16)
        self.servers: list[Server] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.give_up()

    def start(self, servers: Sequence[Server]) -> None:
        """Start further servers, all at once."""
        self.servers += servers
        for server in servers:
            server.begin()
        for server in servers:
            server.wait_until_ready()

    def _addresses(self, servers: Sequence[Server]) -> str:
        return ",".join(f"127.0.0.1:{server.port}" for server in servers)


class RedisCluster(Group):
    """Three primaries with a third of the slots each, and a replica of each; call `form` after the beginning."""

    def __enter__(self) -> Self:
        self.start([self._server() for _ in range(2 * _PRIMARIES)])
        return self

    @property
    def url(self) -> str:
        """The URL for a node; it names two of the six servers."""
        return f"redis+cluster://:{self.password}@{self._addresses(self.servers[:2])}"

    async def form(self) -> None:
        """Make one cluster of the servers, and wait until each of them agrees."""
        primaries, replicas = self.servers[:_PRIMARIES], self.servers[_PRIMARIES:]
        first = self.servers[0]
        for number, server in enumerate(self.servers):
            await server.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for number, server in enumerate(primaries):
            begin, end = (each * _SLOTS // _PRIMARIES for each in (number, number + 1))
            await server.ask("CLUSTER ADDSLOTS", *range(begin, end))
        for server in self.servers[1:]:
            bus = next(
                line.split()[1] for line in first._more.splitlines() if line.startswith("cluster-port")
            )
            await server.ask("CLUSTER MEET", "127.0.0.1", first.port, bus)
        await self._all(lambda server: server.until(_knows_all, "CLUSTER INFO"))
        for primary, replica in zip(primaries, replicas, strict=True):
            await replica.ask("CLUSTER REPLICATE", await primary.ask("CLUSTER MYID"))
        await self.until_whole()

    async def until_whole(self) -> None:
        """Wait until every slot has a primary and a replica, in the eyes of all servers."""
        await self._all(lambda server: server.until(_is_whole, "CLUSTER SLOTS"))
        await self._all(lambda server: server.until(_is_linked, "ROLE"))

    async def owner(self, slot: int) -> Server:
        """The primary that owns ``slot``."""
        ranges = await self.servers_alive[0].ask("CLUSTER SLOTS")
        (port,) = [owner[1] for first, last, owner, *_ in ranges if first <= slot <= last]
        return self._at(port)

    async def replica_of(self, owner: Server) -> Server:
        """The replica of a primary."""
        ranges = await owner.ask("CLUSTER SLOTS")
        return self._at(next(rest[0][1] for _, _, at, *rest in ranges if at[1] == owner.port))

    @property
    def servers_alive(self) -> list[Server]:
        return [server for server in self.servers if server.pid is not None]

    def _at(self, port: int) -> Server:
        return next(server for server in self.servers if server.port == port)

    async def _all(self, do: Callable[[Server], Awaitable[None]]) -> None:
        await asyncio.gather(*(do(server) for server in self.servers))

    def _server(self) -> Server:
        lines = _OF_A_PAIR + _OF_A_CLUSTER
        lines = lines.format(password=self.password, bus=free_port(), silence=SILENCE_MS)
        return Server(self.account, self.password, lines)


class SentinelSite(Group):
    """A primary, its replica, and three Sentinels with a password of their own; call `form` after the beginning."""

    def __enter__(self) -> Self:
        lines = _OF_A_PAIR.format(password=self.password)
        self.sentinel_password = secrets.token_hex(16)
        self.start([Server(self.account, self.password, lines) for _ in range(2)])
        return self

    @property
    def sentinels(self) -> list[Server]:
        return self.servers[2:]

    @property
    def url(self) -> str:
        """The URL for a node, of logical database 1."""
        hosts = self._addresses(self.sentinels)
        login = f"sentinel_password={self.sentinel_password}"
        return f"redis+sentinel://:{self.password}@{hosts}/{SERVICE}/1?{login}"

    async def form(self) -> None:
        """Make the second server a replica, start the Sentinels, and wait until each of them knows all others."""
        primary, replica = self.servers
        await replica.ask("REPLICAOF", "127.0.0.1", primary.port)
        await primary.until(_is_linked, "ROLE")
        # A Sentinel asks a primary for its replicas at its start, and then each 10 s.
        self.start([SentinelServer(self.account, self.sentinel_password, primary) for _ in range(3)])
        for sentinel in self.sentinels:
            await sentinel.until(_knows_the_others, "SENTINEL MASTERS")

    async def primary(self) -> Server:
        """The primary, as the last Sentinel knows it."""
        _, port = await self.sentinels[-1].ask("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in self.servers if server.port == int(port))


def _knows_all(info: Any) -> bool:
    facts = info if isinstance(info, dict) else dict(line.split(":") for line in info.split())
    return facts["cluster_state"] == "ok" and int(facts["cluster_known_nodes"]) == 2 * _PRIMARIES


def _is_whole(ranges: Any) -> bool:
    return sum(last - first + 1 for first, last, *_ in ranges) == _SLOTS and all(
        len(servers) == 2 for _, _, *servers in ranges
    )


def _is_linked(role: Any) -> bool:
    """Whether a primary has a replica that follows it, or a replica follows its primary."""
    return bool(role[1]) if role[0] == "master" else role[3] == "connected"


def _knows_the_others(masters: Any) -> bool:
    state = masters[SERVICE] if isinstance(masters, dict) else dict(zip(*[iter(masters[0])] * 2, strict=True))
    return (
        int(state["num-other-sentinels"]) == 2
        and int(state["num-slaves"]) == 1
        and not {"s_down", "o_down", "disconnected"} & set(str(state["flags"]).split(","))
    )
