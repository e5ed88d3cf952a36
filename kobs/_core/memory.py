"""Memory for rings: anonymous, or a file whose space is there before anything is written to it.

`mmap.mmap` keeps a duplicate of the file's descriptor open (until Python 3.13, and there by
default); a watched program must not find descriptors that it did not open. So a file's mapping is
made through libc, and the descriptor is closed at once.
"""

import ctypes
import mmap
import os

_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_MAP_FIXED = 0x10
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)


def _map(descriptor: int, size: int, protection: int = _READ_WRITE) -> memoryview:
    """The file, mapped over the place that an anonymous mapping of Python's own has taken.

    Views hold that one, and it goes when it is freed, not when it is finalized: the garbage
    collector finalizes all of a cycle in any order, and a generator of that cycle that is closed
    then may emit.
    """
    view = anonymous(size)
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    if _mmap(address, size, protection, mmap.MAP_SHARED | _MAP_FIXED, descriptor, 0) == _MAP_FAILED:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return view


def anonymous(size: int) -> memoryview:
    """`size` zeroed bytes that no other process shares (a forked child has its own copy)."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def file(path: str, size: int) -> memoryview:
    """`size` zeroed bytes of the new file `path` (mode 0600), all of them allocated.

    Raises `OSError`, and leaves no file, where the file cannot be made or has no room. Writing to
    a sparse file on a full disk would be a SIGBUS in the watched program, hence the allocation.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        return _map(descriptor, size)
    except OSError:
        try:
            os.unlink(path)
        except OSError:
            pass
        raise
    finally:
        os.close(descriptor)


def hidden(path: str) -> str:
    """The name of a recording's file while it is made. A process may be killed at any moment:
    under its own name there is never a file without a whole header."""
    return path + ".new"


def reveal(path: str) -> None:
    """Give a file that is ready its own name."""
    os.rename(hidden(path), path)


def existing(path: str, size: int) -> memoryview:
    """The first `size` bytes of a file, to read; they follow what its writer does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _map(descriptor, size, mmap.PROT_READ).toreadonly()
    finally:
        os.close(descriptor)


def existing_writable(path: str, size: int) -> memoryview:
    """The first `size` bytes of a file that this process wrote."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return _map(descriptor, size)
    finally:
        os.close(descriptor)
