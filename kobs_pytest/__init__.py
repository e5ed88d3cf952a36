"""Assertions in pytest on what the code really did."""
