"""Redis: snapshots with their edges, leases on connections, and the pool of connections to it."""
