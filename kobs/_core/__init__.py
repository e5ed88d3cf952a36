"""Rings: the format, the contract that cores fulfil, and the selector that picks one."""
