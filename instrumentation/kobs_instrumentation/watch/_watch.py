"""What the watches share: where events go, how they are switched on and off, what goes wrong."""

import os
import sys
from collections.abc import Callable, Iterable
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from kobs import inside
from kobs.context import cause
from kobs.errors import ClosedError, KobsError
from kobs.muted import muted
from kobs_instrumentation.watch import _patch
from kobs_instrumentation.watch._patch import Patcher, bound_early

if TYPE_CHECKING:
    from kobs.collector import Collector
    from kobs.schema import PayloadType

_NAMED = 10
"""How many names a note lists."""

GetCollector = Callable[[], "Collector | None"]
Undo = Callable[[], None]


class Always:
    """A `GetCollector` that never says another: the C core's hooks need not ask it each time."""

    __slots__ = ("collector",)

    def __init__(self, collector: "Collector") -> None:
        self.collector = collector

    def __call__(self) -> "Collector":
        return self.collector


class Watch:
    """The standard-library half of a subsystem: patches that are there while someone watches.

    Several may install it; the collector of the last one that is still there gets the events.
    `patch(patcher)` puts the patches in place at the first install; after the last undo every
    patched object is the original again.
    """

    def __init__(self, name: str, patch: Callable[[Patcher], None]) -> None:
        self.name = name
        self._patch = patch
        self._patcher: Patcher | None = None
        self._installs: list[tuple[GetCollector, bool]] = []
        self._get: GetCollector | None = None
        self._always: Collector | None = None
        self._leaving: GetCollector | None = None

    def install(self, get_collector: GetCollector, *, events: bool = True) -> Undo:
        """Watch on; returns what takes it back (twice is once, in any order).

        `get_collector()` is asked at each event; None records nothing. Without `events` only
        cause is carried on.
        """
        entry = (get_collector, events)
        self._installs.append(entry)
        self._choose()
        if self._patcher is None:
            self._patcher = Patcher(self.name, self.note)
            try:
                self._patch(self._patcher)
            except BaseException:  # none of it rather than half
                self._patcher.undo()
                self._patcher = None
                self._installs.remove(entry)
                self._choose()
                raise
        done = False

        def undo() -> None:
            nonlocal done
            if done:
                return
            done = True
            for index, other in enumerate(self._installs):
                if other is entry:
                    del self._installs[index]
                    break
            if not self._installs and self._patcher is not None:
                self._leaving = get_collector
                self._patcher.undo()  # what it has left to tell still goes where events went
                self._patcher = self._leaving = None
            self._choose()

        return undo

    @property
    def active(self) -> bool:
        """Someone watches."""
        return bool(self._installs)

    def collector(self) -> "Collector | None":
        """Where events go now; None where nobody wants any."""
        if self._always is not None:
            return self._always
        return None if self._get is None else self._get()

    def any_collector(self) -> "Collector | None":
        """The collector of whoever watches, events or not: it knows the session's links."""
        return self._installs[-1][0]() if self._installs else None

    def emit(self, cls: "type[PayloadType]", /, *fields: Any, **header: Any) -> int:
        """Record an event; its id, 0 where it was not recorded."""
        emitter = self.emitter(cls)
        return 0 if emitter is None else emitter(*fields, **header)

    def emitter(self, cls: "type[PayloadType]") -> Callable[..., int] | None:
        """What records such events now; None where nobody wants any."""
        collector = self.collector()
        if collector is None or collector.closed:
            return None
        return collector.emitters.get(cls) or collector.emitter(cls)

    def tell(
        self,
        cls: "type[PayloadType]",
        fields: dict[str, Any],
        *,
        once: bool = True,
        fits: Callable[[dict[str, Any]], bool] | None = None,
        **header: Any,
    ) -> int:
        """Record an event in the words of the observed call that would say it too, and now does
        not; `once`: they are only for the first that it would say."""
        call = self.call_saying(cls, fits)
        if call is None:
            return self.emit(cls, *fields.values(), **header)
        said = {} if once and call.claimed else words_of(call)
        event = self.emit_in(said, cls, fields, **header)
        call.tell()
        return event

    def hold(
        self,
        cls: "type[PayloadType]",
        fields: dict[str, Any],
        *,
        subject: int | None = None,
        fits: Callable[[dict[str, Any]], bool] | None = None,
        words: tuple[str, ...] = (),
        **header: Any,
    ) -> None:
        """Record an event, or have the observed call that says it too tell it on its return. If
        it does not, it is told in the call's words for the fields `words`."""
        call = self.call_saying(cls, fits)
        if call is None:
            self.emit(cls, *fields.values(), **header)
            return
        said = {name: value for name, value in words_of(call).items() if name in words}
        now = cause.get()
        header.setdefault("timestamp_ns", monotonic_ns())
        if now is not None:
            header = {
                "causality_id": now.causality_id, "parent": now.parent, "span_id": now.span_id,
                **header,
            }  # fmt: skip
        call.hold(inside.Held(lambda: self.emit_in(said, cls, fields, **header), subject=subject))

    def note(self, text: str) -> None:
        """Say in the session what this watch cannot see of this process."""
        collector = self.any_collector() if self._leaving is None else self._leaving()
        session = getattr(collector, "session", None)
        if session is not None:
            with muted():
                session.add_unobserved(os.getpid(), list(sys.orig_argv), text)

    def taken_away(self) -> list[str]:
        """What another took our patches of away: by those names nothing is seen any more."""
        return self._patcher.taken_away() if self._patcher is not None else []

    def call_saying(
        self, cls: "type[PayloadType]", fits: Callable[[dict[str, Any]], bool] | None = None
    ) -> inside.Inside | None:
        """The observed call that is running and says such an event to the same collector."""
        if cls not in inside.said:
            return None
        collector = self.collector()
        if collector is None or collector.closed:
            return None
        return inside.call_saying(cls, collector, fits)

    def emit_in(
        self, words: dict[str, Any], cls: "type[PayloadType]", fields: dict[str, Any], **header: Any
    ) -> int:
        """Record an event in other words than the watch's own, where they fit."""
        if words:
            try:
                return self.emit(cls, **{**fields, **words}, **header)
            except KobsError:  # the call itself would fail on them as well
                pass
        return self.emit(cls, *fields.values(), **header)

    def _choose(self) -> None:
        self._get = self._always = None
        for get, events in reversed(self._installs):
            if events:
                self._get = get
                self._always = get.collector if isinstance(get, Always) else None
                break


def note_early(watches: Iterable[Watch]) -> None:
    """Say in the session which names were bound too early for these watches."""
    by_patcher = {w._patcher: w for w in watches if w._patcher is not None}
    for patcher, names in bound_early(by_patcher).items():
        watch = by_patcher[patcher]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        watch.note(
            f"{watch.name}: calls by {', '.join(names[:_NAMED])}{more} are not seen: bound "
            "before kobs came"
        )


class AimedWatch(Watch):
    """A watch with hooks in C that record by themselves: they are told where to, whenever that
    changes."""

    _told_of_global = False

    def aim(self) -> None:
        """Tell the hooks where events go now."""
        raise NotImplementedError

    def aim_failed(self, where: str, error: BaseException) -> bool:
        """An error in such a hook, as `_patch.tell` has it. A collector that is closed is none."""
        if isinstance(error, ClosedError):
            self.aim()
            return False
        return _patch.tell(where, error)

    def _choose(self) -> None:
        super()._choose()
        if not self._told_of_global:
            from kobs.collector import watch_global_collector

            self._told_of_global = True
            watch_global_collector(lambda _: self.aim())
        self.aim()


def first_in_second(window: list[int], now_ns: int, most: int) -> bool:
    """Whether this is one of the first `most` in its second; `window`: since when, how many."""
    if now_ns - window[0] >= 1_000_000_000:
        window[:] = now_ns, 0
    window[1] += 1
    return window[1] <= most


def words_of(call: inside.Inside) -> dict[str, Any]:
    """The words of a call; none where they cannot be had."""
    try:
        return call.words()
    except Exception as error:
        _on_error("words of an observed call", error)
        return {}


_told: set[str] = set()
_get_any: list[GetCollector] = []


def errors_go_to(get_collector: GetCollector) -> Undo:
    """Count errors inside hooks in this collector, while not undone."""
    _get_any.append(get_collector)

    def undo() -> None:
        if get_collector in _get_any:
            _get_any.remove(get_collector)

    return undo


def tell_error(where: str, error: BaseException) -> None:
    """Count and tell an error of ours, or of a watch of another package."""
    _on_error(where, error)


def _on_error(where: str, error: BaseException) -> None:
    """Count an error of ours; tell of it once a place, in the session rather than on stderr."""
    try:
        collector = _get_any[-1]() if _get_any else None
        if collector is not None and not collector.closed:
            collector.ring.count("errors")
        if where in _told:
            return
        _told.add(where)
        text = f"error inside kobs, in {where}: {type(error).__name__}: {error}"
        session = getattr(collector, "session", None)
        if session is not None:
            session.add_unobserved(os.getpid(), list(sys.orig_argv), text)
        else:
            import logging

            logging.getLogger("kobs").error(text, exc_info=error)
    except Exception:  # nothing is left that could be told
        pass


_patch.on_error = _on_error
