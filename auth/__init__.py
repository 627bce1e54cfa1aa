"""Who is asking: tokens, their keys, their revocation, and one-time tickets."""
