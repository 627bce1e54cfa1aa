"""Bytes before TLS, at the point where a connection to PostgreSQL becomes a TLS connection."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from realtime.database import engine_for

_SSL_REQUEST_BYTES = 8


@pytest.mark.parametrize("behind", [b"R\x00\x00\x00\x08\x00\x00\x00\x00", b"S", b"\x00"])
async def test_bytes_behind_postgresqls_answer_to_an_ssl_request_are_refused(behind: bytes) -> None:
    """The first of these bytes mean "you are logged in", and would count as if TLS had verified them."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(_SSL_REQUEST_BYTES)
        writer.write(b"S" + behind)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgresql://u:p@127.0.0.1:{port}/d?sslmode=require"
        engine = engine_for(url, pool_size=1, pooled=False)
        with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        await engine.dispose()
