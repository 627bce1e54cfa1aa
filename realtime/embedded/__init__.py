"""Real PostgreSQL and Redis servers for the demo and the tests, which end with the process that started them.

    with EmbeddedServers.start() as servers:
        connect(servers.database_url, servers.redis_url)

No node imports this package, and import-linter checks that. In production, PostgreSQL and Redis run on their own.
"""

from realtime.embedded.account import ServerAccount, server_account
from realtime.embedded.postgres import Postgres
from realtime.embedded.redis import Redis
from realtime.embedded.servers import EmbeddedServers

__all__ = ["EmbeddedServers", "Postgres", "Redis", "ServerAccount", "server_account"]
