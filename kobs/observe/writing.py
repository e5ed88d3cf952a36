"""The source of a generated wrapper: what runs before, during and after the call, per style.

The four styles (plain, coroutine, generator, async generator) differ in how the call is delegated
to; what is emitted before, at a return and at an error is the same lines in each.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from kobs.errors import ObserveError
from kobs.inside import SHARED, leave, notes, take
from kobs.observe.emissions import Call, Emission, Moment
from kobs.observe.extractors import NOTHING
from kobs.observe.parameters import PREFIX
from kobs.observe.stepping import NO_SCOPE, Scope, first_step, suspend, thrown, without_own_frames
from kobs.observe.targets import ASYNC_GENERATOR, COROUTINE, GENERATOR, PLAIN, Target


class Piece(NamedTuple):
    """One emission at one moment of a call."""

    emission: int
    lines: list[str]
    """All of it, guarded."""
    given: str | None = None
    """Where the channel is called and no more: with which arguments."""
    condition: str | None = None
    """And if."""
    kept: str = ""
    """A name that lives from before the call to its end: what a send announced, a scope."""
    slot: int = -1
    """The emission that it belongs to."""


class Writer:
    """Writes the source of one wrapper."""

    def __init__(self, target: Target, emissions: tuple[Emission, ...]) -> None:
        self.target = target
        self.emissions = emissions
        self.names: dict[str, Any] = {}
        self._constants: dict[int, str] = {}
        self.begin = self.end = -1
        if target.scope:
            moments = [emission.when for emission in emissions]
            ends = [i for i, when in enumerate(moments) if when in ("exit", "return")]
            if "call" not in moments or not ends:
                raise ObserveError(
                    f'the scope on {target.label} needs an emission with when="call" and one '
                    'with when="exit" or "return"'
                )
            self.begin, self.end = moments.index("call"), ends[0]
        self.measured = any(emission.measured for emission in emissions)
        self.steps = self.measured or target.scope
        self.shared = any(each.type in SHARED and each.when != "call" for each in emissions)

    def source(self) -> list[str]:
        """Lines of the wrapper's `def`, named `_kobs_wrapper`."""
        self._fixed(Any=BaseException, Exception=Exception)
        if self.measured:
            from time import perf_counter_ns

            self._fixed(clock=perf_counter_ns)
        style = self.target.style
        body = {
            PLAIN: self._plain,
            COROUTINE: self._coroutine,
            GENERATOR: self._generator,
            ASYNC_GENERATOR: self._async_generator,
        }[style]()
        keyword = "async def" if style in (COROUTINE, ASYNC_GENERATOR) else "def"
        head = f"{keyword} {PREFIX}wrapper({self.target.parameters.declaration()}):"
        return [head, *indent(body)]

    # -- the four styles --------------------------------------------------------------------

    def _plain(self) -> list[str]:
        before, returned, raised = self._before(), self._returned(), self._raised()
        call = self.target.call
        lines = [*self._route(f"return {call}"), *before]
        if self.measured:
            lines.append("_kobs_t = _kobs_clock()")
        elapsed = ["_kobs_d = _kobs_clock() - _kobs_t"] if self.measured else []
        leave = ["_kobs_s.leave()"] if self.target.scope else []
        if raised or leave:
            lines += [
                "try:",
                f"    _kobs_r = {call}",
                "except _kobs_Any as _kobs_x:",
                *indent([*elapsed, *leave, *raised, "raise"]),
            ]
        else:
            lines.append(f"_kobs_r = {call}")
        return [*lines, *elapsed, *leave, *returned, "return _kobs_r"]

    def _coroutine(self) -> list[str]:
        before, returned, raised = self._before(), self._returned(), self._raised()
        call = self.target.call
        lines = [*self._route(f"return await {call}"), *before]
        if not self.steps:
            if raised:
                lines += [
                    "try:",
                    f"    _kobs_r = await {call}",
                    "except _kobs_Any as _kobs_x:",
                    *indent([*raised, "raise"]),
                ]
            else:
                lines.append(f"_kobs_r = await {call}")
            return [*lines, *returned, "return _kobs_r"]
        self._fixed(suspend=suspend, own=without_own_frames, Stop=StopIteration)
        step = self._step(
            "_kobs_v = _kobs_g.send(_kobs_v) if not _kobs_b else _kobs_g.throw(_kobs_b.pop())",
            ["except _kobs_Stop as _kobs_x:", "    {leave}", "    _kobs_r = _kobs_x.value",
             "    break"],
            raised,
        )  # fmt: skip
        return [
            *lines,
            "_kobs_g = _kobs_v = None; _kobs_b = []; _kobs_d = 0",
            f"_kobs_g = {call}",
            "while True:",
            *indent(step),
            "    try: _kobs_v = await _kobs_suspend(_kobs_v)",
            "    except _kobs_Any as _kobs_x: _kobs_b.append(_kobs_own(_kobs_x))",
            *returned,
            "return _kobs_r",
        ]

    def _generator(self) -> list[str]:
        before, returned, raised = self._before(), self._returned(), self._raised()
        self._fixed(own=without_own_frames, Stop=StopIteration, Exit=GeneratorExit)
        closed = self._closed(returned, raised)
        step = self._step(
            "_kobs_v = _kobs_g.send(_kobs_v) if not _kobs_b else _kobs_g.throw(_kobs_b.pop())",
            ["except _kobs_Stop as _kobs_x:", "    {leave}", "    _kobs_r = _kobs_x.value",
             "    break", *closed],
            raised,
        )  # fmt: skip
        unobserved = self._step(
            "_kobs_v = _kobs_g.send(_kobs_v) if not _kobs_b else _kobs_g.throw(_kobs_b.pop())",
            ["except _kobs_Stop as _kobs_x: return _kobs_x.value"],
            [],
            observed=False,
        )
        resume = [
            "    try: _kobs_v = yield _kobs_v",
            "    except _kobs_Any as _kobs_x: _kobs_b.append(_kobs_own(_kobs_x))",
        ]
        start = ["_kobs_v = None; _kobs_b = []; _kobs_d = 0", f"_kobs_g = {self.target.call}"]
        bare = [*start, "while True:", *indent(unobserved), *resume]
        return [
            *self._route_block(bare),
            *before,
            *start,
            "while True:",
            *indent(step),
            *resume,
            *returned,
            "return _kobs_r",
        ]

    def _async_generator(self) -> list[str]:
        before, returned, raised = self._before(), self._returned(), self._raised()
        self._fixed(suspend=suspend, own=without_own_frames, Stop=StopIteration,
                    End=StopAsyncIteration, Exit=GeneratorExit, first=first_step,
                    thrown=thrown)  # fmt: skip
        step = "_kobs_v = _kobs_a.send(_kobs_v) if not _kobs_b else _kobs_a.throw(_kobs_b.pop())"

        def loop(observed: bool) -> list[str]:
            ended = (
                ["except _kobs_End:", "    {leave}", "    _kobs_r = None", *indent(returned),
                 "    return"]
                if observed else ["except _kobs_End: return"]
            )  # fmt: skip
            closed = self._closed(returned, raised) if observed else []
            stepped = self._step(
                step,
                ["except _kobs_Stop as _kobs_x:", "    {leave}", "    _kobs_v = _kobs_x.value",
                 "    break", *ended, *closed],
                [*(raised if observed else []), "_kobs_a = None"],
                observed=observed,
            )  # fmt: skip
            return [
                "_kobs_b = []; _kobs_d = 0",
                f"_kobs_g = {self.target.call}",
                "_kobs_a = _kobs_first(_kobs_g)",
                "while True:",
                "    _kobs_v = None",
                "    while True:",
                *indent(stepped, 2),
                "        try: _kobs_v = await _kobs_suspend(_kobs_v)",
                "        except _kobs_Any as _kobs_x: _kobs_b.append(_kobs_own(_kobs_x))",
                "    try: _kobs_a = _kobs_g.asend((yield _kobs_v))",
                "    except _kobs_Any as _kobs_x: _kobs_a = _kobs_thrown(_kobs_g, _kobs_x)",
            ]

        return [*self._route_block([*loop(False), "return"]), *before, *loop(True)]

    # -- parts ------------------------------------------------------------------------------

    def _step(
        self, step: str, ends: list[str], raised: list[str], *, observed: bool = True
    ) -> list[str]:
        """One step of what is delegated to: timed, inside the scope, its end told apart."""
        measured = self.measured and observed
        scope = self.target.scope and observed
        leave = "; ".join(
            (["_kobs_d += _kobs_clock() - _kobs_t"] if measured else [])
            + (["_kobs_s.leave()"] if scope else [])
        )
        lines = ["_kobs_s.enter()"] if scope else []
        if measured:
            lines.append("_kobs_t = _kobs_clock()")
        lines += ["try:", f"    {step}"]
        for line in ends:
            if "{leave}" not in line:
                lines.append(line)
            elif leave:
                lines.append(line.replace("{leave}", leave))
        if raised or leave:
            lines += ["except _kobs_Any as _kobs_x:"]
            lines += indent([*([leave] if leave else []), *raised, "raise"])
        elif not ends:
            raise AssertionError("a step has at least one end")
        return [*lines, *([leave] if leave else [])]

    def _closed(self, returned: list[str], raised: list[str]) -> list[str]:
        """A generator that is closed early has ended in order: what is said at a return is
        said."""
        if not (returned or raised):
            return []
        return ["except _kobs_Exit:", "    {leave}", "    _kobs_r = None", *indent(returned),
                "    raise"]  # fmt: skip

    def _route(self, otherwise: str) -> list[str]:
        return self._route_block([otherwise])

    def _route_block(self, otherwise: list[str]) -> list[str]:
        """Where events go: one test where nowhere, then the instance's own collector if any
        instance has one; the channels of this call's emissions."""
        lines = ["_kobs_e = _kobs_route", "if _kobs_e is None:", *indent(otherwise)]
        if self.target.looks_up and self.target.this is not None:
            lines += [
                "if _kobs_lookup is not None:",
                f"    _kobs_e = _kobs_lookup({self.target.this})",
                "    if _kobs_e is None:",
                *indent(otherwise, 2),
            ]
        return [*lines, f"_kobs_c, {self._channels()} = _kobs_e"]

    def _channels(self) -> str:
        return ", ".join(f"_kobs_{i}" for i in range(len(self.emissions)))

    def _once(self, lines: list[str]) -> list[str]:
        """What is said at the end of a call, but what a watch has told inside."""
        if not self.shared:
            return lines
        self._fixed(notes=notes, take=take, leave=leave, frame=sys._getframe)
        channels = self._channels()
        return [
            "if _kobs_notes:",
            f"    _kobs_n, {channels} = _kobs_take(",
            f"        _kobs_frame(), _kobs_failed.__self__, ({channels},))",
            *indent(lines),
            "    _kobs_leave(_kobs_n, _kobs_failed, _kobs_c)",
            *(["else:", *indent(lines)] if lines else []),
        ]

    def known(self, emission: Emission) -> dict[str, str]:
        """Source of the fields that the call gives and that are known before it returns. What
        falls back to a default for want of a parameter is left out."""
        found: dict[str, str] = {}
        given = {**emission.fields, **emission.header}
        names = (*emission.type.__kobs_schema__.field_names, "severity")
        for name in names:
            code = _AtCall(self)
            try:
                if name in given:
                    value: str | None = given[name].expression(code)
                else:
                    value = self.constant(self.target.name) if name in _OWN_NAME else None
            except ObserveError:
                continue
            if value is not None and code.is_known:
                found[name] = value
        return found

    def _before(self) -> list[str]:
        lines = flat(self.before())
        # where the call is stepped through, each step enters the scope
        plain = self.target.scope and self.target.style == PLAIN
        return [*lines, "_kobs_s.enter()"] if plain else lines

    def _returned(self) -> list[str]:
        return self._once(flat(self.returned()))

    def _raised(self) -> list[str]:
        return self._once(flat(self.raised()))

    def before(self) -> Iterator[Piece]:
        """What is done before the call."""
        for index, emission in enumerate(self.emissions):
            if index == self.begin:
                yield self._scope_begin(index, emission)
            elif emission.when == "call":
                yield self._emit(index, emission, self._code())
            elif self._announced(emission):
                yield self._announce(index, emission)

    def returned(self) -> Iterator[Piece]:
        """What is done after it returned."""
        for index, emission in enumerate(self.emissions):
            if emission.when in ("return", "exit"):
                yield self._emit(index, emission, self._code(result="_kobs_r"))

    def raised(self) -> Iterator[Piece]:
        """What is done after it raised."""
        for index, emission in enumerate(self.emissions):
            if emission.when in ("raise", "exit"):
                yield self._emit(index, emission, self._code(error="_kobs_x"))
            elif self._announced(emission):
                kept = f"_kobs_k{index}"
                lines = self._guarded(index, [f"_kobs_{index}.withdraw({kept})"])
                yield Piece(index, lines, kept=kept, slot=index)
            elif index == self.end:
                yield Piece(index, ["_kobs_s.abandon()"], kept="_kobs_s", slot=self.begin)

    def _emit(self, index: int, emission: Emission, code: "_Code") -> Piece:
        about = Moment(method=self.target.name, duration=code.duration, error=code.error)
        values = ", ".join(emission.arguments(code, about))
        header = emission.header_arguments(code)
        channel = f"_kobs_{index}"
        given = ", ".join([*([values] if values else []), *header])
        condition = emission.condition(code, about)
        announced = self._announced(emission)
        plain = False
        if index == self.end:
            payload = f"{code.constant(emission.type)}({values})"
            call = f"_kobs_s.end({', '.join([payload, *header])})"
        elif emission.sends is not None:
            sent = f"_kobs_k{index}" if announced else f"{channel}.send({emission.key(code)})"
            call = f"{channel}.sent({', '.join([sent, given])})"
        elif emission.receives is not None:
            call = f"{channel}.received({', '.join([emission.key(code), given])})"
        else:
            plain = True
            call = f"{channel}({given})"
        lines = [f"if {condition}: {call}"] if condition else [call]
        if condition and announced:
            lines.append(f"else: {channel}.withdraw(_kobs_k{index})")
        lines = self._guarded(index, lines)
        if plain:
            return Piece(index, lines, given, condition)
        if index == self.end:
            return Piece(index, lines, kept="_kobs_s", slot=self.begin)
        if announced:
            return Piece(index, lines, kept=f"_kobs_k{index}", slot=index)
        return Piece(index, lines)

    def _announced(self, emission: Emission) -> bool:
        """The key of a send is known before the call: it is announced then, so that no receiver
        can be faster than the sender."""
        if emission.sends is None or emission.when != "return" or emission.sends.sees_call:
            return False
        try:
            emission.key(self._code())
        except ObserveError:
            return False
        return True

    def _announce(self, index: int, emission: Emission) -> Piece:
        kept = f"_kobs_k{index}"
        announcing = [f"{kept} = _kobs_{index}.send({emission.key(self._code())})"]
        lines = [f"{kept} = None", *self._guarded(index, announcing)]
        return Piece(index, lines, kept=kept, slot=index)

    def _scope_begin(self, index: int, emission: Emission) -> Piece:
        self._fixed(Scope=Scope, no_scope=NO_SCOPE)
        code = self._code()
        about = Moment(method=self.target.name, duration=None, error=None)
        payload = f"{code.constant(emission.type)}({', '.join(emission.arguments(code, about))})"
        given = ", ".join(["_kobs_c", payload, *emission.header_arguments(code)])
        lines = [
            "_kobs_s = _kobs_no_scope",
            *self._guarded(index, [f"_kobs_s = _kobs_Scope({given})"]),
        ]
        return Piece(index, lines, kept="_kobs_s", slot=index)

    def _guarded(self, index: int, lines: list[str]) -> list[str]:
        """An error in here is kobs's own: counted, logged once, never the program's."""
        return [
            "try:",
            *indent(lines),
            "except _kobs_Exception as _kobs_y:",
            f"    _kobs_failed(_kobs_y, {index}, _kobs_c)",
        ]

    def _code(self, *, result: str | None = None, error: str | None = None) -> "_Code":
        ended = result is not None or error is not None
        return _Code(self, result, error, "_kobs_d" if self.measured and ended else None)

    def _fixed(self, **names: object) -> None:
        self.names.update({f"{PREFIX}{name}": value for name, value in names.items()})

    def constant(self, value: object) -> str:
        """A name under which the wrapper sees `value`."""
        name = self._constants.get(id(value))
        if name is None:
            name = self._constants[id(value)] = f"{PREFIX}k_{len(self._constants)}"
            self.names[name] = value
        return name


class _Code:
    """One emission at one moment; see `extractors.Code`."""

    def __init__(
        self, writer: Writer, result: str | None, error: str | None, duration: str | None
    ) -> None:
        self._writer = writer
        self.this = writer.target.this
        self.result = result
        self.error = error
        self.duration = duration
        self.signature = writer.target.label
        self.constant: Callable[[object], str] = writer.constant

    def argument(self, key: str | int, default: object) -> str | None:
        return self._writer.target.arguments.expression(key, default, self.constant)

    def call(self) -> str:
        target = self._writer.target
        given = []
        for name in target.arguments.inner.names[target.arguments.bound :]:
            value = target.arguments.expression(name, NOTHING, self.constant)
            if value is not None:
                given.append(f"{name!r}: {value}")
        duration = f"{self.duration} / 1000" if self.duration else "0.0"
        return (
            f"{self.constant(Call)}({self.this}, {target.name!r}, {{{', '.join(given)}}}, "
            f"{self.result}, {self.error}, {duration})"
        )

    def mangled(self, attribute: str) -> str:
        owner = self._writer.target.owner.lstrip("_")
        if owner and attribute.startswith("__") and not attribute.endswith("__"):
            return f"_{owner}{attribute}"
        return attribute


class _AtCall(_Code):
    """An emission before the call returns: notes what a value is made of."""

    def __init__(self, writer: Writer) -> None:
        self._asked = self._found = self._later = False
        super().__init__(writer, None, None, None)

    @property
    def is_known(self) -> bool:
        """The value is in the call, or is constant."""
        return not self._later and (self._found or not self._asked)

    @property
    def this(self) -> str | None:
        self._asked = self._found = True
        return self._writer.target.this

    @this.setter
    def this(self, _: str | None) -> None: ...

    @property
    def result(self) -> str | None:
        self._later = True
        return None

    @result.setter
    def result(self, _: str | None) -> None: ...

    @property
    def error(self) -> str | None:
        self._later = True
        return None

    @error.setter
    def error(self, _: str | None) -> None: ...

    def argument(self, key: str | int, default: object) -> str | None:
        self._asked = True
        found = super().argument(key, default)
        self._found = self._found or found is not None
        return found

    def call(self) -> str:
        self._later = True
        return "None"


_OWN_NAME = ("name", "operation")
"""Fields that are the method's name where they are not given."""


def flat(pieces: Iterable[Piece]) -> list[str]:
    return [line for piece in pieces for line in piece.lines]


def indent(lines: Iterable[str], levels: int = 1) -> list[str]:
    return ["    " * levels + line for line in lines]
