"""A whole site: two nodes of its own behind a real nginx, restarted one after the other."""

from __future__ import annotations

import shutil
from typing import Final
from urllib.parse import urlsplit

from tests.data_folders import open_folder
from tests.faults.stage import Stage
from tests.operations.rolling import FRESH_WITHIN_SECONDS, SPREAD_WITHIN_SECONDS, rolling_restart

_CLIENTS: Final = 500


async def rolling_restart_behind_nginx(stage: Stage) -> None:
    """Both nodes of a site restart under five hundred clients of the public package."""
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None:
        stage.proves("nginx is on this machine (apt install nginx)", true=False)
        return
    ground = stage.ground
    # In a database of Redis of its own, where the nodes of the stage count no clients.
    redis_url = urlsplit(ground.servers.redis_url)._replace(path="/1").geturl()
    with open_folder() as folder:
        rolled = await rolling_restart(ground.database_url, redis_url, folder, clients=_CLIENTS)
    upgrades = rolled.log.count(" 101 ")
    stage.proves(f"nginx upgraded {upgrades:,} connections of {_CLIENTS} clients", upgrades > _CLIENTS)
    stage.figure("refused by nginx", rolled.refused, 0, "")
    stage.figure("not fresh for", rolled.worst_seconds, FRESH_WITHIN_SECONDS * rolled.slowness)
    stage.figure("spread again", rolled.spread_seconds, SPREAD_WITHIN_SECONDS * rolled.slowness)
    stage.figure(
        "not fresh while they move", rolled.doubted, 0 if rolled.is_quiet else _CLIENTS, f"of {_CLIENTS}"
    )
    stage.healed()
