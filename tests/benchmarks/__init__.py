"""How far the server is from the limit, and from what people would otherwise use.

`python -m tests.benchmarks` measures. Every figure is a ratio of two things measured alternately in one run,
because absolute times say nothing about another machine. `docs/performance.md` says how to read them.
"""
