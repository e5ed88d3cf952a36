"""What reaches the hooks of system calls, memory, pipes, sockets and permissions: for
`faulty_hooks.py`. Each hook is reached by a call that succeeds and one that fails."""

import _socket
import asyncio
import contextlib
import fcntl
import gc
import mmap
import multiprocessing
import os
import resource
import select
import socket
import ssl
import subprocess
import termios
import threading
import time
from _io import FileIO
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import ShareableList, SharedMemory
from pathlib import Path
from typing import Any

from faulty_work import outcome, spawned, waited_by_id, waited_for, waited_with

from kobs_instrumentation.watch import memory, process, shm

CERTIFICATE = Path(__file__).parent / "data" / "localhost.pem"
NO_PATH = "/none/at/all"


def all_of(*outcomes: Any) -> str:
    return "; ".join(map(str, outcomes))


# -- system calls --------------------------------------------------------------------------------


@contextlib.contextmanager
def a_file() -> Iterator[int]:
    """A file that holds 100 bytes, open at its beginning."""
    with open("f", "wb+") as file:
        file.write(b"x" * 100)
        file.seek(0)
        yield file.fileno()


def of_file(function: Callable[[int], Any]) -> Callable[[], str]:
    def work() -> str:
        with a_file() as descriptor:
            return outcome(function, descriptor)

    return work


def between(function: Callable[[int, int], Any]) -> Callable[[], str]:
    """What needs a file and a pipe."""

    def work() -> str:
        reader, writer = os.pipe()
        with a_file() as file:
            found = outcome(function, file, writer)
        os.close(reader)
        os.close(writer)
        return found

    return work


def duplicate(function: Callable[[int], int]) -> Callable[[], str]:
    return of_file(lambda fd: os.close(function(fd)))


def made_and_removed(make: Callable[[], Any]) -> Callable[[], str]:
    """What makes `g`, out of `f`."""

    def work() -> str:
        with a_file():
            found = outcome(make)
        for name in ("f", "g"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        return found

    return work


def made_and(undo: Callable[[str], Any]) -> Callable[[], str]:
    def work() -> str:
        with a_file():
            return outcome(undo, "f")

    return work


def folder() -> str:
    os.mkdir("d")
    return outcome(os.rmdir, "d")


def with_attribute(function: Callable[[], Any]) -> Callable[[], str]:
    def work() -> str:
        with a_file():
            return all_of(outcome(os.setxattr, "f", "user.x", b"1"), outcome(function))

    return work


def event_descriptor() -> str:
    descriptor = os.eventfd(0)
    found = all_of(outcome(os.eventfd_write, descriptor, 1), outcome(os.eventfd_read, descriptor))
    os.close(descriptor)
    return found


def in_child(function: Callable[[], Any]) -> Callable[[], str]:
    def work() -> str:
        pid = os.fork()
        if pid == 0:
            os._exit(len(outcome(function)))
        return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    return work


def polls() -> str:
    reader, writer = os.pipe()
    poll = select.poll()
    poll.register(writer, select.POLLOUT)
    with select.epoll() as epoll:
        epoll.register(writer, select.EPOLLOUT)
        found = all_of(
            len(poll.poll(0)), len(epoll.poll(0)), len(select.select([], [writer], [], 0)[1])
        )
    os.close(reader)
    os.close(writer)
    return found


GOOD: dict[str, Callable[[], str]] = {
    "open": of_file(lambda fd: os.close(os.open("f", os.O_RDONLY))),
    "close": of_file(lambda fd: os.close(os.dup(fd))),
    "read": of_file(lambda fd: os.read(fd, 3)),
    "write": of_file(lambda fd: os.write(fd, b"abc")),
    "pread": of_file(lambda fd: os.pread(fd, 3, 1)),
    "pwrite": of_file(lambda fd: os.pwrite(fd, b"abc", 1)),
    "readv": of_file(lambda fd: os.readv(fd, [bytearray(3)])),
    "writev": of_file(lambda fd: os.writev(fd, [b"abc"])),
    "preadv": of_file(lambda fd: os.preadv(fd, [bytearray(3)], 1)),
    "pwritev": of_file(lambda fd: os.pwritev(fd, [b"abc"], 1)),
    "sendfile": between(lambda file, pipe: os.sendfile(pipe, file, 0, 10)),
    "copy_file_range": of_file(lambda fd: os.copy_file_range(fd, fd, 3, 0, 50)),
    "splice": between(lambda file, pipe: os.splice(file, pipe, 10)),
    "fsync": of_file(lambda fd: os.fsync(fd)),
    "fdatasync": of_file(lambda fd: os.fdatasync(fd)),
    "sync": lambda: outcome(os.sync),
    "ftruncate": of_file(lambda fd: os.ftruncate(fd, 10)),
    "truncate": made_and(lambda path: os.truncate(path, 10)),
    "lseek": of_file(lambda fd: os.lseek(fd, 1, os.SEEK_SET)),
    "posix_fallocate": of_file(lambda fd: os.posix_fallocate(fd, 0, 10)),
    "posix_fadvise": of_file(lambda fd: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_NORMAL)),
    "dup": duplicate(lambda fd: os.dup(fd)),
    "dup2": duplicate(lambda fd: os.dup2(fd, 100)),
    "pipe": lambda: outcome(lambda: [os.close(end) for end in os.pipe()]),
    "pipe2": lambda: outcome(lambda: [os.close(end) for end in os.pipe2(0)]),
    "memfd_create": lambda: outcome(lambda: os.close(os.memfd_create("x"))),
    "eventfd": event_descriptor,
    "eventfd_read": event_descriptor,
    "eventfd_write": event_descriptor,
    "stat": lambda: outcome(os.stat, "."),
    "lstat": lambda: outcome(os.lstat, "."),
    "fstat": of_file(lambda fd: os.fstat(fd)),
    "statvfs": lambda: outcome(os.statvfs, "."),
    "fstatvfs": of_file(lambda fd: os.fstatvfs(fd)),
    "access": lambda: outcome(os.access, ".", os.R_OK),
    "chmod": made_and(lambda path: os.chmod(path, 0o600)),
    "fchmod": of_file(lambda fd: os.fchmod(fd, 0o600)),
    "chown": made_and(lambda path: os.chown(path, -1, -1)),
    "fchown": of_file(lambda fd: os.fchown(fd, -1, -1)),
    "lchown": made_and(lambda path: os.lchown(path, -1, -1)),
    "utime": made_and(lambda path: os.utime(path)),
    "link": made_and_removed(lambda: os.link("f", "g")),
    "symlink": made_and_removed(lambda: os.symlink("f", "g")),
    "readlink": made_and_removed(lambda: (os.symlink("f", "g"), os.readlink("g"))),
    "rename": made_and_removed(lambda: os.rename("f", "g")),
    "replace": made_and_removed(lambda: os.replace("f", "g")),
    "unlink": made_and(lambda path: os.unlink(path)),
    "remove": made_and(lambda path: os.remove(path)),
    "rmdir": folder,
    "mkdir": folder,
    "mkfifo": made_and_removed(lambda: os.mkfifo("g")),
    "mknod": made_and_removed(lambda: os.mknod("g")),
    "chdir": lambda: outcome(os.chdir, "."),
    "fchdir": lambda: outcome(in_folder),
    "chroot": in_child(lambda: os.chroot("/")),
    "getcwd": lambda: outcome(os.getcwd),
    "listdir": lambda: outcome(os.listdir),
    "scandir": lambda: outcome(lambda: os.scandir().close()),
    "getxattr": with_attribute(lambda: os.getxattr("f", "user.x")),
    "setxattr": with_attribute(lambda: None),
    "listxattr": with_attribute(lambda: os.listxattr("f")),
    "removexattr": with_attribute(lambda: os.removexattr("f", "user.x")),
    "lockf": of_file(lambda fd: (os.lockf(fd, os.F_LOCK, 0), fcntl.lockf(fd, fcntl.LOCK_UN))),
    "kill": lambda: outcome(os.kill, os.getpid(), 0),
    "killpg": lambda: outcome(os.killpg, os.getpgrp(), 0),
    "wait": lambda: spawned(waited_for),
    "waitpid": lambda: spawned(lambda pid: os.waitpid(pid, 0)),
    "wait3": lambda: spawned(waited_with(os.wait3)),
    "wait4": lambda: spawned(waited_with(os.wait4)),
    "waitid": lambda: spawned(waited_by_id),
    "getrandom": lambda: str(len(os.getrandom(3))),
    "urandom": lambda: str(len(os.urandom(3))),
    "getpriority": lambda: outcome(os.getpriority, os.PRIO_PROCESS, 0),
    "setpriority": lambda: outcome(
        lambda: os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))
    ),
    "nice": lambda: outcome(os.nice, 0),
    "setuid": lambda: outcome(os.setuid, os.getuid()),
    "setgid": lambda: outcome(os.setgid, os.getgid()),
    "setsid": in_child(lambda: os.setsid()),
    "sched_setaffinity": lambda: outcome(os.sched_setaffinity, 0, os.sched_getaffinity(0)),
    "sleep": lambda: outcome(time.sleep, 0),
    "select": polls,
    "poll": polls,
    "epoll": polls,
    "flock": of_file(lambda fd: fcntl.flock(fd, fcntl.LOCK_EX)),
    "fcntl": of_file(lambda fd: fcntl.fcntl(fd, fcntl.F_GETFD)),
    "ioctl": between(lambda _, pipe: fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))),
    "socketpair": lambda: outcome(lambda: [end.close() for end in socket.socketpair()]),
    "getaddrinfo": lambda: outcome(socket.getaddrinfo, "127.0.0.1", 1),
    "gethostbyname": lambda: outcome(socket.gethostbyname, "127.0.0.1"),
}
"""Calls that succeed, by the function that they are of."""


def in_folder() -> None:
    descriptor = os.open(".", os.O_RDONLY)
    os.fchdir(descriptor)
    os.close(descriptor)


def system_call(name: str) -> str:
    """A call that succeeds, and one whose arguments do not fit."""
    if name not in GOOD:
        return sockets()
    homes = (os, time, select, fcntl, _socket)
    functions = [getattr(home, name) for home in homes if hasattr(home, name)]
    return all_of(GOOD[name](), *(outcome(each, *(object(),) * 9) for each in functions))


# -- memory --------------------------------------------------------------------------------------


def collections() -> str:
    memory._levels.due_ns = 0
    gc.collect()
    return outcome(gc.collect, "x")


def mappings() -> str:
    mapping = mmap.mmap(-1, 4096)
    mapping.resize(8192)
    mapping.close()
    with mmap.mmap(-1, 4096) as other:
        other[0] = 1
    mmap.mmap(-1, 4096)
    return outcome(mmap.mmap, -1, -1)


def segments() -> str:
    segment = SharedMemory(create=True, size=10)
    other = SharedMemory(name=segment.name)
    other.close()
    segment.close()
    segment.unlink()
    items = ShareableList([1, "x"])
    items[0] = 2
    found = all_of(items[0], items[1], outcome(items.__getitem__, 5), outcome(SharedMemory, "none"))
    items.shm.close()
    items.shm.unlink()
    shm.at_end()
    return found


# -- pipes ---------------------------------------------------------------------------------------


def pipes() -> str:
    found = []
    for make in (os.pipe, lambda: os.pipe2(os.O_CLOEXEC)):
        reader, writer = make()
        found.append(os.write(writer, b"abc") + os.writev(writer, [b"d", b"e"]))
        found.append(os.read(reader, 2) + bytes([os.readv(reader, [bytearray(3)])]))
        with a_file() as file:
            found.append(os.sendfile(writer, file, 0, 10) + os.splice(file, writer, 10))
        copy = os.dup(reader)
        os.dup2(reader, copy)
        os.set_blocking(reader, False)
        found += [os.read(copy, 100), outcome(os.read, reader, 1)]
        found.append(outcome(os.readv, reader, [bytearray(1)]))
        os.close(copy)
        os.close(reader)
        found += [outcome(os.write, writer, b"x"), outcome(os.writev, writer, [b"x"])]
        os.close(writer)
    return all_of(*found)


def pipe_files() -> str:
    reader, writer = os.pipe()
    out, into = FileIO(writer, "wb"), FileIO(reader, "rb")
    found = [out.write(b"abcdef"), into.read(2), into.readinto(bytearray(2)), outcome(out.read)]
    found += [outcome(out.read, 1), outcome(out.readall), outcome(out.readinto, bytearray(1))]
    found.append(outcome(into.write, b"x"))
    out.close()
    found.append(into.readall())
    into.close()
    with open(os.pipe()[0], "rb") as left:
        found.append(left.readable())
    return all_of(*found)


def connections() -> str:
    one, other = multiprocessing.Pipe()
    one.send("x")
    found = other.recv()
    one.close()
    return all_of(found, outcome(other.recv), outcome(other.send, "y"))


# -- sockets -------------------------------------------------------------------------------------


def sockets() -> str:
    return streams() + datagrams() + refused()


def streams() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        other = socket.socket()
        found: list[Any] = [other.connect_ex(listener.getsockname())]
        found.append(other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        listener.accept()[0].close()
        os.close(other.detach())
        listener.settimeout(0)
        found.append(outcome(listener.accept))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.send(b"ab")
    client.sendall(b"cd")
    client.sendmsg([b"ef"])
    found += [server.recv(1), server.recv_into(bytearray(1)), server.recvfrom(1)[0]]
    found += [server.recvfrom_into(bytearray(1))[0], server.recvmsg(1)[0]]
    found.append(server.recvmsg_into([bytearray(1)])[0])
    client.shutdown(socket.SHUT_WR)
    client.close()
    server.close()
    make_and_drop()
    return all_of(*found)


def make_and_drop() -> None:
    """A socket that goes without being closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dropped = socket.create_connection(listener.getsockname())
        listener.accept()[0].close()
        descriptor = dropped.fileno()
        del dropped
        with contextlib.suppress(OSError):
            os.close(descriptor)


def datagrams() -> str:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        one.bind(("127.0.0.1", 0))
        other.sendto(b"abc", one.getsockname())
        found = [one.recvfrom(10)[0]]
        other.connect(one.getsockname())
        other.send(b"x")
        found.append(one.recv(10))
    return all_of(*found)


def refused() -> str:
    """Every method of a socket that fails."""
    with socket.socket() as closed:
        pass
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("connect", (("127.0.0.1", 1),)), ("connect_ex", ("x",)), ("bind", (("127.0.0.1", 1),)),
        ("listen", ()), ("shutdown", (0,)), ("setsockopt", (0, 0, 0)), ("getsockopt", (0, 0)),
        ("recv", (1,)), ("recv_into", (bytearray(1),)), ("recvfrom", (1,)),
        ("recvfrom_into", (bytearray(1),)), ("recvmsg", (1,)), ("recvmsg_into", ([bytearray(1)],)),
        ("send", (b"x",)), ("sendall", (b"x",)), ("sendmsg", ([b"x"],)),
        ("sendto", (b"x", ("127.0.0.1", 1))), ("_accept", ()),
    ]  # fmt: skip
    found = [outcome(getattr(closed, name), *args) for name, args in calls]
    found += [outcome(socket.getaddrinfo, "x", "no such service"), outcome(socket.gethostbyname, 1)]
    found += [outcome(socket.gethostbyname_ex, 1), outcome(socket.gethostbyaddr, 1)]
    found.append(outcome(socket.getnameinfo, 1, 0))
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with unix:
        found += [outcome(unix.bind, NO_PATH), outcome(unix.connect, NO_PATH)]
        found.append(outcome(unix.sendto, b"x", NO_PATH))
    return all_of(*found)


def secured() -> str:
    """TLS by sockets: one that is read and written, broken off, and one that is not trusted."""
    theirs, ours = contexts()
    found: list[Any] = []
    for trusting in (ours, ssl.create_default_context()):
        left, right = socket.socketpair()
        answers: list[str] = []

        def answer(left: socket.socket = left, answers: list[str] = answers) -> None:
            def serve() -> str:
                with theirs.wrap_socket(left, server_side=True) as secure:
                    data: bytes = secure.recv(10)
                    secure.sendall(data)
                return data.decode()

            answers.append(outcome(serve).partition(":")[0])

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with trusting.wrap_socket(right, server_hostname="localhost") as secure:
                secure.sendall(b"abc")
                found.append(secure.recv(10))
                secure.settimeout(0)
                thread.join()
                os.dup2(os.open("/dev/null", os.O_RDWR), secure.fileno())
                found += [outcome(secure.read, "x"), outcome(secure.write, "x")]
                found.append(outcome(secure.send, "x"))
        except ssl.SSLCertVerificationError as error:
            found.append(type(error).__name__)
        right.close()
        thread.join()
        left.close()
        found += answers
    return all_of(*found)


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(CERTIFICATE)
    return server, ssl.create_default_context(cafile=str(CERTIFICATE))


def secured_loop() -> str:
    theirs, ours = contexts()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(10))
        writer.close()

    async def main() -> bytes:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=theirs)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=ours, server_hostname="localhost"
        )
        writer.write(b"abc")
        found = await reader.read(10)
        writer.close()
        server.close()
        return found

    return str(asyncio.run(main()))


# -- permissions ---------------------------------------------------------------------------------

NO_PID = 4_194_305
"""Above the most that there can be."""

REFUSED: dict[str, Callable[[], Any]] = {
    "open": lambda: all_of(outcome(open, NO_PATH), outcome(os.open, NO_PATH, 0)),
    "fchdir": lambda: os.fchdir(2**30),
    "fchmod": lambda: os.fchmod(2**30, 0),
    "fchown": lambda: os.fchown(2**30, -1, -1),
    "mkfifo": lambda: os.mkfifo(NO_PATH),
    "mknod": lambda: os.mknod(NO_PATH),
    "rename": lambda: os.rename(NO_PATH, "x"),
    "replace": lambda: os.replace(NO_PATH, "x"),
    "link": lambda: os.link(NO_PATH, "x"),
    "symlink": lambda: os.symlink("x", NO_PATH),
    "truncate": lambda: os.truncate(NO_PATH, 0),
    "chmod": lambda: os.chmod(NO_PATH, 0),
    "chown": lambda: os.chown(NO_PATH, -1, -1),
    "lchown": lambda: os.lchown(NO_PATH, -1, -1),
    "execv": lambda: os.execv(NO_PATH, ["x"]),
    "execve": lambda: os.execve(NO_PATH, ["x"], {}),
    "posix_spawn": lambda: os.posix_spawn(NO_PATH, ["x"], {}),
    "posix_spawnp": lambda: os.posix_spawnp(NO_PATH, ["x"], {}),
    "kill": lambda: os.kill(NO_PID, 0),
    "killpg": lambda: os.killpg(NO_PID, 0),
    "nice": lambda: os.nice("x"),  # type: ignore[arg-type]
    "setpriority": lambda: os.setpriority(9, 0, 0),
    "sched_setaffinity": lambda: os.sched_setaffinity(0, []),
    "sched_setparam": lambda: os.sched_setparam(0, "x"),  # type: ignore[arg-type]
    "sched_setscheduler": lambda: os.sched_setscheduler(0, 99, os.sched_param(0)),
    "setpgid": lambda: os.setpgid(-5, 0),
    "setsid": in_child(lambda: (outcome(os.setsid), os.setsid())),
    "setreuid": lambda: os.setreuid(-5, -5),
    "setregid": lambda: os.setregid(-5, -5),
    "setresuid": lambda: os.setresuid(-5, -5, -5),
    "setresgid": lambda: os.setresgid(-5, -5, -5),
    "setgroups": lambda: os.setgroups([-5]),
    "initgroups": lambda: os.initgroups("x", -5),
    "_execute_child": lambda: subprocess.run([NO_PATH]),
    "setrlimit": lambda: resource.setrlimit(99, (1, 1)),
    "prlimit": lambda: resource.prlimit(0, 99),
    "shm_open": lambda: SharedMemory("none"),
    "umask": lambda: os.umask(os.umask(0o777)),
    **dict.fromkeys(("bind", "connect", "sendto", "socket"), refused),
}
"""Calls that fail, of functions that do not take one path, or a user or group."""

GRANTED: dict[str, Callable[[], Any]] = {
    "chmod": GOOD["chmod"],
    "fchmod": GOOD["fchmod"],
    "chown": GOOD["chown"],
    "lchown": GOOD["lchown"],
    "fchown": GOOD["fchown"],
    "chroot": GOOD["chroot"],
    "setuid": lambda: os.setuid(os.getuid()),
    "seteuid": lambda: os.seteuid(os.geteuid()),
    "setreuid": lambda: os.setreuid(-1, -1),
    "setresuid": lambda: os.setresuid(-1, -1, -1),
    "setgid": lambda: os.setgid(os.getgid()),
    "setegid": lambda: os.setegid(os.getegid()),
    "setregid": lambda: os.setregid(-1, -1),
    "setresgid": lambda: os.setresgid(-1, -1, -1),
    "setgroups": lambda: os.setgroups(os.getgroups()),
    "initgroups": in_child(lambda: os.initgroups("root", 0)),
}


def permission(name: str) -> str:
    """A call that is refused, and one that is a grant."""
    refuse = REFUSED.get(name)
    if refuse is None:
        function = getattr(os, name)
        refuse = lambda: function(-5 if name.startswith("set") else NO_PATH)  # noqa: E731
    return all_of(outcome(refuse), outcome(GRANTED.get(name, str)))


def left_behind() -> str:
    """A child that nobody has waited for when the process ends."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    process.at_end()
    return str(os.waitpid(pid, 0)[1])


IO_WORK: dict[str, Callable[[], str]] = {
    "process.at_end": left_behind,
    "memory.mmap": mappings,
    "memory": collections,
    "shm": segments,
    "pipe._send_bytes": connections,
    "pipe._recv_bytes": connections,
    "pipe.FileIO": pipe_files,
    "pipe.open": pipe_files,
    "pipe": pipes,
    "network.do_handshake": secured,
    "network._SSLSocket": secured,
    "network.SSLSocket": secured,
    "network._on_handshake_complete": secured_loop,
    "network.read": secured,
    "network.send": lambda: sockets() + secured(),
    "network.write": secured,
    "network": sockets,
    "audit event open": lambda: outcome(open, NO_PATH),
    "sandbox": lambda: outcome(open, NO_PATH),
}
"""By a hook's whole name, or the longest beginning of it."""
