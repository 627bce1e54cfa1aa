"""Brings a database to the shape that this release reads: tables, capture triggers, roles."""
