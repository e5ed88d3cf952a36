"""Judging a test by its markers: patterns, budgets, leaks, anomalies.

PYTEST_DONT_REWRITE
"""
