"""Assertions on what a test caused: the fixture and the sequence of events.

PYTEST_DONT_REWRITE
"""
