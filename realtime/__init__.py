"""Live account state: from rows in PostgreSQL to frames on a stream."""
