"""The network watch, in this process."""

import asyncio
import contextlib
import errno
import gc
import os
import socket
import ssl
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kobs
from kobs import ConnectionClosed, ConnectionEstablished, NetworkError, ResourceLeaked, Severity
from kobs.context import cause
from kobs_instrumentation.watch import _patch, network

CERTIFICATE = Path(__file__).parent / "data" / "localhost.pem"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[kobs.Collector]:
    wrong: list[BaseException] = []
    monkeypatch.setattr(_patch, "on_error", lambda where, error: wrong.append(error))
    before = cause.get()
    with kobs.Collector(size=256) as made:
        undo = network.install(lambda: made)
        yield made
        undo()
    cause.set(before)
    assert wrong == []


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair(collector: kobs.Collector, listener: socket.socket) -> Iterator[Pair]:
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    with client, server:
        yield client, server


def told(collector: kobs.Collector, *types: type) -> list[Any]:
    return [e for e in collector.snapshot() if not types or isinstance(e.payload, types)]


def closed(collector: kobs.Collector) -> list[tuple[int, int]]:
    return [
        (e.payload.bytes_sent, e.payload.bytes_received) for e in told(collector, ConnectionClosed)
    ]


def established(collector: kobs.Collector) -> list[tuple[str, int, str]]:
    return [
        (e.payload.protocol, e.payload.local_port, e.payload.remote_addr)
        for e in told(collector, ConnectionEstablished)
    ]


def errors(collector: kobs.Collector) -> list[str]:
    return [e.payload.error for e in told(collector, NetworkError)]


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not happen")


def state_of(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0]


# -- tcp -------------------------------------------------------------------------------------


def test_both_ends_are_told_with_their_addresses(collector: kobs.Collector, pair: Pair) -> None:
    ports = [end.getsockname()[1] for end in pair]
    assert established(collector) == [
        ("tcp", ports[0], f"127.0.0.1:{ports[1]}"),
        ("tcp", ports[1], f"127.0.0.1:{ports[0]}"),
    ]


@pytest.mark.parametrize("first", [0, 1], ids=["client first", "server first"])
@pytest.mark.parametrize("shut", [None, socket.SHUT_WR, socket.SHUT_RDWR], ids=str)
@pytest.mark.says("connections with bytes both ways")
def test_bytes_are_exact_whoever_ends_it(
    collector: kobs.Collector, pair: Pair, first: int, shut: int | None
) -> None:
    client, server = pair
    client.sendall(b"x" * 100_000)
    received = 0
    while received < 100_000:
        received += len(server.recv(65536))
    server.sendall(b"y" * 7)
    assert client.recv(100) == b"y" * 7
    one, other = pair[first], pair[1 - first]
    if shut is not None:
        one.shutdown(shut)
        wait_until(lambda: state_of(other) == 8)
        other.shutdown(socket.SHUT_WR)
        wait_until(lambda: state_of(one) not in (4, 5))
    one.close()
    if shut is None:
        wait_until(lambda: state_of(other) == 8)
    other.close()
    assert sorted(closed(collector)) == [(7, 100_000), (100_000, 7)]


def test_closing_is_caused_by_the_beginning_and_tells_how_long_it_was(
    collector: kobs.Collector, pair: Pair
) -> None:
    for end in pair:
        end.close()
        end.close()
    began, ended = told(collector, ConnectionEstablished), told(collector, ConnectionClosed)
    assert len(began) == 2
    assert [e.parent for e in ended] == [e.id for e in began]
    assert [e.causality_id for e in ended] == [e.causality_id for e in began]
    assert all(0 < e.payload.duration_ms < 60_000 for e in ended)


def test_makefile_keeps_the_connection_until_the_file_is_closed(
    collector: kobs.Collector, pair: Pair
) -> None:
    client, server = pair
    with server.makefile("rwb") as file:
        server.close()
        client.sendall(b"line\n")
        assert file.readline() == b"line\n"
        assert closed(collector) == []
    assert closed(collector) == [(0, 5)]


@pytest.mark.says("network errors")
def test_a_reset_is_an_error_and_no_byte(collector: kobs.Collector, pair: Pair) -> None:
    client, server = pair
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    client.close()
    remote = established(collector)[0][2]
    assert errors(collector) == [
        f"recv {remote}: [Errno {errno.ECONNRESET}] Connection reset by peer"
    ]
    assert closed(collector) == [(0, 0), (0, 0)]


def test_a_reset_that_nobody_read_is_no_byte(collector: kobs.Collector, pair: Pair) -> None:
    client, server = pair
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    wait_until(lambda: state_of(client) == 7)
    client.close()
    assert closed(collector) == [(0, 0), (0, 0)]


def test_sending_to_nobody_is_a_broken_pipe(collector: kobs.Collector, pair: Pair) -> None:
    client, _ = pair
    client.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        client.sendall(b"x")
    (text,) = errors(collector)
    assert text.endswith(f"[Errno {errno.EPIPE}] Broken pipe")


@pytest.mark.says("network errors")
def test_refusals_count_as_retries_until_it_works(
    collector: kobs.Collector, listener: socket.socket
) -> None:
    address = listener.getsockname()
    listener.close()
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
    found = told(collector, NetworkError)
    expected = f"connect 127.0.0.1:{address[1]}: [Errno {errno.ECONNREFUSED}] Connection refused"
    assert [e.payload.error for e in found] == [expected] * 3
    assert [e.payload.retry_count for e in found] == [0, 1, 2]
    with socket.create_server(address), socket.create_connection(address):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert told(collector, NetworkError)[-1].payload.retry_count == 0


def test_waiting_in_vain_for_data_is_told_below_errors(
    collector: kobs.Collector, pair: Pair
) -> None:
    pair[0].settimeout(0.001)
    with pytest.raises(TimeoutError):
        pair[0].recv(1)
    (event,) = told(collector, NetworkError)
    assert event.severity == Severity.INFO
    assert event.payload.error == f"recv {established(collector)[0][2]}: timed out"


def test_a_name_that_is_none(collector: kobs.Collector) -> None:
    with pytest.raises(socket.gaierror):
        socket.create_connection(("name.invalid", 80))
    (text,) = errors(collector)
    assert text.startswith("getaddrinfo name.invalid:80: [Errno ")


def test_not_ready_is_no_error(collector: kobs.Collector, pair: Pair) -> None:
    pair[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        pair[0].recv(1)
    assert errors(collector) == []


# -- connecting without waiting ----------------------------------------------------------------


def test_established_when_the_program_asks_what_came_of_it(
    collector: kobs.Collector, listener: socket.socket
) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(listener.getsockname()) == errno.EINPROGRESS
        assert established(collector) == []
        wait_until(lambda: state_of(sock) == 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert [remote for _, _, remote in established(collector)] == [
            f"127.0.0.1:{listener.getsockname()[1]}"
        ]
    assert closed(collector) == [(0, 0)]


def test_established_when_the_program_connects_again(
    collector: kobs.Collector, listener: socket.socket
) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
        wait_until(lambda: state_of(sock) == 1)
        sock.connect_ex(listener.getsockname())
        sock.connect_ex(listener.getsockname())
        assert len(established(collector)) == 1


def test_established_at_the_latest_when_it_is_closed(
    collector: kobs.Collector, listener: socket.socket
) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
        wait_until(lambda: state_of(sock) == 1)
        sock.send(b"abc")
    assert len(established(collector)) == 1
    assert closed(collector) == [(3, 0)]


def test_refused_when_the_program_asks(collector: kobs.Collector, listener: socket.socket) -> None:
    address = listener.getsockname()
    listener.close()
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex(address)
        wait_until(lambda: state_of(sock) == 7)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
    assert errors(collector) == [
        f"connect 127.0.0.1:{address[1]}: [Errno {errno.ECONNREFUSED}] Connection refused"
    ]
    assert established(collector) == closed(collector) == []


# -- others ------------------------------------------------------------------------------------


def test_unix_sockets(collector: kobs.Collector, tmp_path: Path) -> None:
    path = os.path.relpath(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            server, _ = listener.accept()
            with server:
                client.sendall(memoryview(b"abc"))
                assert server.recv(10) == b"abc"
                buffer = bytearray(10)
                client.sendmsg([b"de", b"f"])
                assert server.recv_into(buffer) == 3
                server.send(b"wxyz")
                assert client.recvmsg(10)[0] == b"wxyz"
    assert established(collector) == [("unix", 0, path), ("unix", 0, f"pid {os.getpid()}")]
    assert sorted(closed(collector)) == [(4, 6), (6, 4)]


def test_socket_pairs_connect_nobody(collector: kobs.Collector) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.send(b"x")
        assert other.recv(1) == b"x"
    assert told(collector) == []


def test_connected_udp_sockets_are_told(collector: kobs.Collector, listener: socket.socket) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        one.bind(("127.0.0.1", 0))
        one.sendto(b"unconnected", one.getsockname())
        assert one.recvfrom(100)[0] == b"unconnected"
        assert told(collector) == []
        other.connect(one.getsockname())
        other.send(b"abc")
        assert one.recv(100) == b"abc"
        port = other.getsockname()[1]
    assert established(collector) == [("udp", port, f"127.0.0.1:{one_port(collector)}")]
    assert closed(collector) == [(3, 0)]


def one_port(collector: kobs.Collector) -> str:
    return established(collector)[0][2].rpartition(":")[2]


def test_ipv6_addresses_are_in_brackets(collector: kobs.Collector) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener, socket.create_connection(listener.getsockname()[:2]):
        port = listener.getsockname()[1]
        assert established(collector)[0][2] == f"[::1]:{port}"


# -- identity and ownership --------------------------------------------------------------------


def test_a_socket_that_was_there_before_is_told_at_its_end(listener: socket.socket) -> None:
    with kobs.Collector(size=64) as collector:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        undo = network.install(lambda: collector)
        client.sendall(b"abc")
        client.close()
        listener.close()
        undo()
        server.close()
        (event,) = collector.snapshot()
        assert event.payload == ConnectionClosed(3, 0)


def test_detached_and_wrapped_it_stays_one(collector: kobs.Collector, pair: Pair) -> None:
    client, _ = pair
    with socket.socket(fileno=client.detach()) as again:
        again.sendall(b"abc")
    assert len(established(collector)) == 2
    assert closed(collector) == [(3, 0)]


def test_an_unclosed_socket_warns_and_goes_as_it_would(
    collector: kobs.Collector, listener: socket.socket
) -> None:
    client = socket.create_connection(listener.getsockname())
    descriptor = client.fileno()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del client
    assert [w.category for w in caught] == [ResourceWarning]
    caught.clear()  # each has the socket
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    (event,) = told(collector, ResourceLeaked)
    assert event.payload == ResourceLeaked("connection", 1)
    assert event.parent == told(collector, ConnectionEstablished)[0].id
    gc.collect()
    assert closed(collector) == []


def test_each_accepted_connection_begins_a_chain_of_its_own(
    collector: kobs.Collector, listener: socket.socket
) -> None:
    seen = []
    for _ in range(2):
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        now = cause.get()
        assert now is not None
        seen.append((now.causality_id, now.parent))
        client.close()
        server.close()
    accepted = told(collector, ConnectionEstablished)[1::2]
    assert seen == [(e.causality_id, e.id) for e in accepted]
    assert len({chain for chain, _ in seen}) == 2
    assert all(e.parent == 0 and e.causality_id for e in accepted)


def test_accepting_inside_a_span_stays_in_it(
    collector: kobs.Collector, listener: socket.socket
) -> None:
    with socket.create_connection(listener.getsockname()), kobs.span_operation("serve"):
        before = cause.get()
        listener.accept()[0].close()
        assert cause.get() == before


def test_after_the_undo_nothing_is_told_and_all_is_as_before(listener: socket.socket) -> None:
    before = dict(vars(socket.socket)), dict(vars(ssl.SSLSocket))
    with kobs.Collector(size=64) as collector:
        undo = network.install(lambda: collector)
        client = socket.create_connection(listener.getsockname())
        undo()
        undo()
        assert (dict(vars(socket.socket)), dict(vars(ssl.SSLSocket))) == before
        collector.reset()
        client.close()
        assert collector.snapshot() == []


# -- TLS ---------------------------------------------------------------------------------------


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(CERTIFICATE)
    return server, ssl.create_default_context(cafile=str(CERTIFICATE))


@contextlib.contextmanager
def serving(listener: socket.socket, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    thread = threading.Thread(target=lambda: serve(listener))
    thread.start()
    yield
    thread.join()


def test_tls_is_an_upgrade_of_its_connection(
    collector: kobs.Collector, listener: socket.socket
) -> None:
    theirs, ours = contexts()

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as plain, theirs.wrap_socket(plain, server_side=True) as sock:
            sock.sendall(sock.recv(10))

    with serving(listener, serve):
        plain = socket.create_connection(listener.getsockname())
        with ours.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(b"abc")
            assert sock.recv(10) == b"abc"
    began = told(collector, ConnectionEstablished)
    mine = [e for e in began if e.payload.local_port != listener.getsockname()[1]]
    assert [e.payload.protocol for e in mine] == ["tcp", "tls"]
    assert mine[1].parent == mine[0].id
    assert len(told(collector, ConnectionClosed)) == 2
    ended = next(e for e in told(collector, ConnectionClosed) if e.parent == mine[1].id)
    assert ended.payload.bytes_sent > 3  # as it went over the wire
    assert ended.payload.bytes_received > 3


def test_a_failed_handshake_is_an_error(collector: kobs.Collector, listener: socket.socket) -> None:
    theirs, _ = contexts()

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as plain, contextlib.suppress(OSError):
            theirs.wrap_socket(plain, server_side=True).close()

    untrusting = ssl.create_default_context()
    with (
        serving(listener, serve),
        socket.create_connection(listener.getsockname()) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        untrusting.wrap_socket(plain, server_hostname="localhost")
    assert any(
        "handshake 127.0.0.1:" in text and "CERTIFICATE" in text for text in errors(collector)
    )


# -- asyncio -----------------------------------------------------------------------------------


async def talk(port: int, secure: ssl.SSLContext | None) -> None:
    name = "localhost" if secure else None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=secure, server_hostname=name
    )
    writer.write(b"abc" * 1000)
    await writer.drain()
    assert await reader.readexactly(3000) == b"abc" * 1000
    writer.close()
    await writer.wait_closed()


async def converse(secure: bool) -> int:
    theirs, ours = contexts() if secure else (None, None)
    done = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(3000))
        await writer.drain()
        await reader.read()
        writer.close()
        with contextlib.suppress(ssl.SSLError):
            await writer.wait_closed()
        done.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=theirs)
    port: int = server.sockets[0].getsockname()[1]
    await talk(port, ours)
    await done.wait()
    server.close()
    await server.wait_closed()
    return port


def test_asyncio_streams(collector: kobs.Collector) -> None:
    port = asyncio.run(converse(secure=False))
    began = established(collector)
    assert len(began) == 2
    assert ("tcp", f"127.0.0.1:{port}") in [(protocol, remote) for protocol, _, remote in began]
    assert closed(collector) == [(3000, 3000)] * 2
    assert errors(collector) == []


@pytest.mark.says("connections with bytes both ways")
def test_asyncio_streams_with_tls(collector: kobs.Collector) -> None:
    asyncio.run(converse(secure=True))
    began = told(collector, ConnectionEstablished)
    assert sorted(e.payload.protocol for e in began) == ["tcp", "tcp", "tls", "tls"]
    assert {e.parent for e in told(collector, ConnectionClosed)} == {
        e.id for e in began if e.payload.protocol == "tls"
    }
    assert all(sent > 3000 and received > 3000 for sent, received in closed(collector))


def test_asyncio_refused(collector: kobs.Collector, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(talk(port, None))
    assert errors(collector) == [
        f"connect 127.0.0.1:{port}: [Errno {errno.ECONNREFUSED}] Connection refused"
    ]
