"""The state of an account: the tables, the capture that keeps them current, and the live queries that read them."""
