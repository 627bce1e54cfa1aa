"""The figures, one subject a file; each is a function from the ground to what it measured."""
