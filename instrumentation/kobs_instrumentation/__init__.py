"""What kobs knows about the subsystems of Python programs.

PYTEST_DONT_REWRITE
"""
