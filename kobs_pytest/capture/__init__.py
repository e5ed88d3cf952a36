"""Capturing: the collector that tests record into, and whose event is whose.

PYTEST_DONT_REWRITE
"""
