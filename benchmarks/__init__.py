"""Measurements beside other libraries; `python -m benchmarks` makes the tables of `results/`."""
