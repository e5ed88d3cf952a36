"""What pytest shows: letters, sections and the summary.

PYTEST_DONT_REWRITE
"""
