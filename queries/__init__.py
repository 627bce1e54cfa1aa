"""WHAT an account's state is: the tables, the capture that keeps them current, and the live queries over them."""
