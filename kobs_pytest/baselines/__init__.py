"""Baselines: what a test did before, kept in a file or in the recording of an earlier run.

PYTEST_DONT_REWRITE
"""
