"""pytest-xdist: one session for all workers, and what one that crashed left behind.

PYTEST_DONT_REWRITE
"""
