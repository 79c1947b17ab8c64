"""Fuzz targets: any bytes, any order of calls, and what must still hold.

`python -m tests.fuzz TARGET --seconds 60` runs one with atheris where that is installed (extra `atheris`), else with a
plain mutator; see `--help`. The oracles need neither: `tests/test_fuzz.py` runs them under plain pytest.
"""
