"""The relay: the applier publishes changes to Redis, and each node subscribes to the accounts that it watches."""
