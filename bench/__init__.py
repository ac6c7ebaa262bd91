"""Benchmarks: one module each, run by `make bench` (all) or `python -m bench NAME`.

They measure, as ratios inside one run, and check that what they measured is correct.
"""
