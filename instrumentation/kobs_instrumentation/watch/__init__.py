"""One module a subsystem: the parts of the standard library that it watches."""
