"""Files that are there whole or not at all."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


@contextmanager
def whole_file(path: str, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Open `path` for writing bytes; it appears under its name when the block ends well.

    Until then the bytes are in a hidden file beside it, which goes away if the block raises: a
    full disk leaves no half file, and the file that was there before stays. A device or pipe is
    written as it is. `OSError` carries the name that was asked for. Without `sync` a crash of the
    machine may lose what was written.
    """
    try:
        special = not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        special = False
    if special:
        with open(path, "wb") as file:
            yield file
        return
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    partial = os.path.join(folder, f".{name[:200]}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _named(error, path) from error
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(descriptor)
        os.replace(partial, target)
    except BaseException as error:
        try:
            os.unlink(partial)
        except OSError:
            pass
        if isinstance(error, OSError) and error.filename in (None, partial):
            raise _named(error, path) from error
        raise


def _named(error: OSError, path: str) -> OSError:
    return type(error)(error.errno, error.strerror or str(error), path)
