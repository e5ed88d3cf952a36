"""Spans of the test run: session, tests, phases and fixtures, sent over OTLP (`--kobs-otlp`).

PYTEST_DONT_REWRITE
"""
