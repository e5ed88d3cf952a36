"""Starts the recording of a process that `kobs run` watches; called once by the start-up hook."""

import atexit
import json
import os
import sys
from typing import Any

import kobs.collector
from kobs import config
from kobs._core import notices
from kobs.collector import Collector, init_collector
from kobs.context import cause, origin
from kobs.errors import KobsError
from kobs.session import Session
from kobs_instrumentation import propagate, registry
from kobs_instrumentation.watch import pipe, process, scheduler, shm
from kobs_instrumentation.watch._patch import busy

ROOT_SLOTS = 16_384
CHILD_SLOTS = 4096


class _Notes:
    """Keeps what a core has to say in the session: a watched program's stderr is its own."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self, text: str) -> None:
        try:
            self._session.add_unobserved(os.getpid(), sys.orig_argv, text)
        except KobsError:
            pass


def start(given: dict[str, str]) -> None:
    """Record this process into the session that `given` (what the environment said) names."""
    busy.inside = True
    try:
        _start(given)
    finally:
        busy.inside = False


def _import_what_events_need() -> None:
    """Not in a thread of the program, whose import a child that is forked meanwhile would wait for
    for ever."""
    import kobs.anomaly
    import kobs.sampling  # noqa: F401


def _start(given: dict[str, str]) -> None:
    options: dict[str, Any] = json.loads(given.get("KOBS_OPTIONS") or "{}")
    session = Session.open(given["KOBS_SESSION"])
    notices.listener = _Notes(session)
    is_root = "KOBS_LINK" not in given
    last = bool(options.get("last"))
    collector = Collector(
        session=session,
        size=options.get("size") or (65_536 if last else ROOT_SLOTS if is_root else CHILD_SLOTS),
        sampling=options.get("sampling"),
        adaptive=bool(options.get("adaptive", False)),
        keep=0 if last else options.get("keep"),
        category_rates=config.category_rates(options["rates"]) if options.get("rates") else None,
        hide=options.get("hide") or None,
        parent_event=int(given.get("KOBS_PARENT") or "0", 16),
    )
    kobs.collector.default_session = session
    init_collector(collector)
    given_cause = propagate.cause_from(given, os.environ.get("TRACEPARENT", ""), session.trace_high)
    if given_cause is not None:  # a program can list its context variables: set none in vain
        cause.set(given_cause)
    if given.get("KOBS_ORIGIN"):
        origin.set(given["KOBS_ORIGIN"])
    if options.get("policy"):
        from kobs_instrumentation.policy import SandboxPolicy
        from kobs_instrumentation.watch import sandbox

        sandbox.use(SandboxPolicy.from_mapping(options["policy"]))
    chosen = ("only", "exclude", "watches")
    pipe.process_begins.append(True)
    registry.enable(
        collector, options.get("only"), options.get("exclude"), watches=options.get("watches"),
        options={key: value for key, value in options.items() if key not in chosen},
    )  # fmt: skip
    pipe.process_begins.clear()

    def leave() -> None:
        process.at_end(at_once=True)
        shm.at_end()
        scheduler.at_end()
        collector.ring.leave()

    process.call_at_exit(leave)
    _import_what_events_need()

    def finish() -> None:
        process.at_end()
        shm.at_end()
        scheduler.at_end()
        registry.disable(collector)
        # Not the collector: daemon threads and finalizers may still use it.
        collector.ring.leave()

    atexit.register(finish)  # the first to be registered is the last to run
    if not is_root:
        shm.started_by_another()
        process.begin_process(int(given["KOBS_LINK"], 16))
