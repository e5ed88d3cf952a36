"""The file of a session's doorbell, for who makes the session and waits for nothing."""

import os

FILE = "doorbell"
"""Its name in the session's folder."""
SIZE = 4096


def make(path: str) -> None:
    """Make it (mode 0600). Raises `OSError`."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, SIZE)
    finally:
        os.close(descriptor)
