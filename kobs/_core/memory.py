"""Memory for rings: anonymous, or a file whose space is there before anything is written to it.

`mmap.mmap` keeps a duplicate of the file's descriptor open (until Python 3.13, and there by
default); a watched program must not find descriptors that it did not open. So the mapping is made
through libc, and the descriptor is closed at once.
"""

import ctypes
import os

_PROT_READ, _READ_WRITE = 1, 3
_MAP_SHARED, _MAP_PRIVATE, _MAP_ANONYMOUS = 1, 2, 0x20
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
_munmap = _libc.munmap
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class _Mapped(ctypes.Array[ctypes.c_char]):
    """An array over mapped memory. Views hold it, so the memory goes when the last view goes."""

    _type_ = ctypes.c_char
    _length_ = 0
    where: tuple[int, int]

    def __del__(self, unmap: object = _munmap) -> None:
        unmap(*self.where)  # type: ignore[operator]


_array_types: dict[int, type[_Mapped]] = {}


def _map(descriptor: int, size: int, flags: int, protection: int = _READ_WRITE) -> memoryview:
    address = _mmap(None, size, protection, flags, descriptor, 0)
    if address == _MAP_FAILED:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    kind = _array_types.get(size)
    if kind is None:
        kind = type("_Mapped", (_Mapped,), {"_length_": size, "_type_": ctypes.c_char})
        _array_types[size] = kind
    array = kind.from_address(address)
    array.where = (address, size)
    return memoryview(array).cast("B")


def anonymous(size: int) -> memoryview:
    """`size` zeroed bytes that no other process shares (a forked child has its own copy)."""
    return _map(-1, size, _MAP_PRIVATE | _MAP_ANONYMOUS)


def file(path: str, size: int) -> memoryview:
    """`size` zeroed bytes of the new file `path` (mode 0600), all of them allocated.

    Raises `OSError`, and leaves no file, where the file cannot be made or has no room. Writing to
    a sparse file on a full disk would be a SIGBUS in the watched program, hence the allocation.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        return _map(descriptor, size, _MAP_SHARED)
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
        return _map(descriptor, size, _MAP_SHARED, _PROT_READ).toreadonly()
    finally:
        os.close(descriptor)


def existing_writable(path: str, size: int) -> memoryview:
    """The first `size` bytes of a file that this process wrote."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return _map(descriptor, size, _MAP_SHARED)
    finally:
        os.close(descriptor)
