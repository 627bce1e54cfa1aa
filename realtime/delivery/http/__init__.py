"""Snapshots to clients over plain HTTP: documents, event streams and long polls, and the routes of the service."""
