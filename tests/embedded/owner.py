"""A process that owns servers, for tests that kill it. It prints their addresses as JSON, and then waits."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from realtime.embedded import EmbeddedServers
from realtime.errors import EmbeddedServerError


def main(folder: str) -> int:
    # A process that a shell started in the background inherits that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with EmbeddedServers.start(Path(folder) if folder else None) as servers:
            assert servers.postgres is not None
            answer = {
                "database_url": servers.database_url,
                "redis_url": servers.redis_url,
                "cluster": str(servers.postgres.cluster),
            }
            print(json.dumps(answer), flush=True)
            signal.pause()
    except EmbeddedServerError as error:
        print(json.dumps({"code": error.code, "sentence": str(error)}), flush=True)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
