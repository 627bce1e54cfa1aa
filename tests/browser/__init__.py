"""A package, so that the browser ends with its last test: while Playwright runs, no other event loop can run."""
