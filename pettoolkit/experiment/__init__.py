"""Experiment files: typed, multiplied into cells, run, and remembered."""
