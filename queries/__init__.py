"""WHAT an account's state is: tables, the capture that keeps them current, the live queries over them."""
