"""From snapshots to clients: the hub, what one client is to be sent, and the limits of all transports."""
