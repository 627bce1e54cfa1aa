"""From snapshots to clients: WebSocket, Server-Sent Events, long polls and REST."""
