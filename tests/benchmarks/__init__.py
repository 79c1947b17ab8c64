"""Measure the library beside its peers and beside the theoretical minimum: `python -m tests.benchmarks`."""
