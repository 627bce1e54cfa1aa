"""Real PostgreSQL and Redis servers for the demo and the tests, which end with the process that started them.

    with EmbeddedServers.start(throwaway=True) as servers:
        connect(servers.database_url, servers.redis_url)

Nothing here is meant for production: there, PostgreSQL and Redis are somebody's job.
"""

from realtime.embedded.account import ServerAccount, server_account
from realtime.embedded.postgres import Postgres
from realtime.embedded.redis import Redis
from realtime.embedded.servers import EmbeddedServers, default_data_folder

__all__ = ["EmbeddedServers", "Postgres", "Redis", "ServerAccount", "default_data_folder", "server_account"]
