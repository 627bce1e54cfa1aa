"""The figures, one subject in each file; each is a function from the ground to its measurements."""
