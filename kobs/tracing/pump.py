"""Ended spans out of the ring, off the hot path, to whoever takes readable spans."""

import os
import threading
import time
import weakref
from collections.abc import Callable

from kobs.collector import Collector
from kobs.context import EXPORT_ORIGIN, origin
from kobs.tracing.assembler import SpanAssembler
from kobs.tracing.finished import FinishedSpan

_INTERVAL_S = 0.1


class Pump:
    """Reads a collector's ring and hands every span that ends from now on to `deliver`; `begun`:
    some have begun already.

    A daemon thread reads every tenth of a second once `start` was called; it ends with `stop`,
    with the collector, or when the pump is gone. In a forked child there is another one.
    """

    def __init__(
        self,
        collector: Collector,
        deliver: Callable[[FinishedSpan], None],
        *,
        begun: bool = False,
    ) -> None:
        self._collector = collector
        self._deliver = deliver
        self._since_ns = time.monotonic_ns()
        self._subscriber = collector.subscribe(oldest=begun)
        self._assembler = SpanAssembler(lambda recording: collector.ring.trace_high)
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._lost_told = 0
        _live.add(self)

    @property
    def lost(self) -> int:
        """Events that were gone before they were read: the spans of them are not whole."""
        return self._subscriber.lost

    def start(self) -> None:
        """Have a thread read. Twice is once."""
        with self._lock:
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(
                    target=_run, args=(weakref.ref(self), self._stopped),
                    name="kobs-spans", daemon=True,
                )  # fmt: skip
                self._thread.start()

    def drain(self) -> None:
        """Deliver what has ended by now."""
        with self._lock:
            token = origin.set(EXPORT_ORIGIN)
            try:
                most = 2 * self._collector.ring.slots  # The program may be faster than this.
                while most > 0 and not self._subscriber.closed:
                    event = self._subscriber.next()
                    if event is None:
                        break
                    most -= 1
                    if event.origin == EXPORT_ORIGIN:
                        continue
                    span = self._assembler.observe(event)
                    if span is not None and event.timestamp_ns >= self._since_ns:
                        self._deliver(span)
            finally:
                origin.reset(token)
            self._tell_lost()

    def stop(self) -> None:
        """Deliver what is there and let the thread end. Twice is once."""
        self._stopped.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)
        self.drain()
        self._subscriber.close()

    def _tell_lost(self) -> None:
        lost = self.lost
        if lost > self._lost_told:
            import logging

            logging.getLogger("kobs").warning(
                "%d events were overwritten before their spans were handed on: the ring is too "
                "small for what the program does (KERNEL_STREAM_SIZE)", lost - self._lost_told,
            )  # fmt: skip
            self._lost_told = lost

    def _after_fork(self) -> None:
        """In a forked child: what the parent wrote is the parent's to deliver."""
        running = self._thread is not None
        self._lock = threading.RLock()
        self._assembler = SpanAssembler(lambda recording: self._collector.ring.trace_high)
        self._thread = None
        self._lost_told = 0
        stopped, self._stopped = self._stopped.is_set(), threading.Event()
        if stopped:
            self._stopped.set()
        elif running:
            self.start()


def _run(pump: "weakref.ref[Pump]", stopped: threading.Event) -> None:
    while not stopped.wait(_INTERVAL_S):
        known = pump()
        if known is None or known._subscriber.closed:
            return
        try:
            known.drain()
        except Exception:
            import logging

            logging.getLogger("kobs").warning("a span processor raised", exc_info=True)
        del known


_live: "weakref.WeakSet[Pump]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for pump in list(_live):
        pump._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
