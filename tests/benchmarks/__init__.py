"""How fast the library is, beside its peers and beside the least that is possible: `python -m tests.benchmarks`."""
