"""Faults on purpose, again and again: each module runs by ``python -m benchmarks.soak.NAME`` and prints a table."""
