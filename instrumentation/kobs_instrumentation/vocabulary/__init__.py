"""One module a subsystem: which method names of users' classes mean which events."""
