"""What a run leaves: a folder for each failing test, a page about the whole run, and what CI
services show of them.

PYTEST_DONT_REWRITE
"""
