"""Writers that cost next to nothing themselves: PostgreSQL's own pgbench.

A client in Python would use as much CPU as the server, and hide the server's share.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from realtime.embedded import server_account
from realtime.embedded.programs import find_postgres
from tests.benchmarks.platform import POSITIONS

_VALUES: Final = "'XAUUSD', 'buy', 0.1, 1950.5, :price, 1990, 1900, 1, 'sync', 'success', now(), now()"
_ROW: Final = f"""
INSERT INTO reconciliation_logs (id, user_id, mt5_position_id, symbol, direction, volume, entry_price, current_price,
    take_profit, stop_loss, matched, event_type, status, created_at, updated_at)
VALUES (gen_random_uuid(), md5(:account)::uuid, {{ticket}}, {_VALUES});
"""
_DRAWN: Final = r"""\set account random(0, :accounts - 1)
\set price random(1900, 2000)
"""
_EQUITY: Final = """
INSERT INTO equity_snapshots (user_id, equity, balance, currency)
VALUES (md5(:account)::uuid, 7500 + :price, 10000, 'USD');
"""

#: The platform's reconciliation loop: one transaction, and a statement for each of its eleven rows.
LOOP: Final = "".join(
    (_DRAWN, "BEGIN;", *(_ROW.format(ticket=1001 + n) for n in range(POSITIONS)), _EQUITY, "COMMIT;\n")
)
#: One row without an explicit transaction.
ROW: Final = _DRAWN + _ROW.format(ticket=1001)


@dataclass(frozen=True)
class Written:
    """Transactions a second, and for each the seconds from BEGIN to the answer to COMMIT."""

    per_second: float
    seconds: list[float]


async def write(
    database_url: str,
    script: str,
    *,
    accounts: int,
    writers: int,
    seconds: float,
    per_second: int | None = None,
) -> Written:
    """Run ``script`` on ``writers`` connections for ``seconds``, at full speed or ``per_second`` times a second.

    Raises RuntimeError with the message of pgbench when it fails.
    """
    whole_seconds = max(1, round(seconds))
    with tempfile.TemporaryDirectory(prefix="guardwire-pgbench-") as folder:
        options = [f"--rate={per_second}"] if per_second else []
        process = await asyncio.create_subprocess_exec(
            _pgbench(), "--no-vacuum", "--protocol=prepared", f"--client={writers}", f"--time={whole_seconds}",
            f"--define=accounts={accounts}", "--log", f"--log-prefix={folder}/log", "--file=-", *options,
            env={"PATH": os.environ["PATH"], **_address(database_url)}, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate(script.encode())
        if process.returncode:
            raise RuntimeError(f"pgbench failed: {said.decode()[-1000:]}")
        taken = _taken(Path(folder))
    return Written(len(taken) / whole_seconds, taken)


def _taken(folder: Path) -> list[float]:
    lines = (line for log in folder.glob("log.*") for line in log.read_text().splitlines())
    return [_taken_seconds(line) for line in lines]


def _taken_seconds(line: str) -> float:
    """Seconds from BEGIN to the answer to COMMIT, from a line of pgbench's log.

    The fields are client, number, microseconds, script, two of the clock, and with a rate the lag. With a rate the
    microseconds count from the time at which the transaction was due, and the lag is the delay of its BEGIN.
    """
    fields = line.split()
    return (int(fields[2]) - (int(fields[6]) if len(fields) > 6 else 0)) / 1e6


def _pgbench() -> str:
    beside = find_postgres(server_account()).initdb.with_name("pgbench")
    found = str(beside) if beside.exists() else shutil.which("pgbench")
    if found is None:
        raise RuntimeError("pgbench is not installed: apt install postgresql")
    return found


def _address(database_url: str) -> dict[str, str]:
    parts = urlsplit(database_url)
    return {
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": parts.username or "",
        "PGPASSWORD": parts.password or "",
        "PGDATABASE": parts.path.removeprefix("/"),
    }
