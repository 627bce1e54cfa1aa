"""Snapshots to clients over WebSocket."""
