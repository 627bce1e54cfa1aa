"""How far the server is from the least possible cost, and from the usual solutions.

`python -m tests.benchmarks` measures. Every figure is a ratio of two things that are measured alternately in one run,
because absolute times of one machine say nothing about another. `docs/performance.md` explains the figures.
"""
