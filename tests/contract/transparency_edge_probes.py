"""Questions at the edges, asked of a bare and of an observed copy of `transparency_edges`.

Every probe takes the module and gives an answer of plain values. Those in `OF_C_ONLY` are asked of
the C core alone: a generated function is a coroutine or generator of its own around the original's,
and that shows there.
"""

import asyncio
import contextvars
import copy
import functools
import gc
import inspect
import io
import pickle
import sys
import traceback
import types
import typing
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

Probe = Callable[[Any], object]
PROBES: dict[str, Probe] = {}
OF_C_ONLY: set[str] = set()


def probe(function: Probe) -> Probe:
    PROBES[function.__name__] = function
    return function


def of_c_only(function: Probe) -> Probe:
    OF_C_ONLY.add(function.__name__)
    return probe(function)


def outcome(function: Callable[..., object], *args: object, **kwargs: object) -> object:
    """What a call gives, or the exception in words."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        return type(error).__name__, str(error)


def names_in(error: BaseException) -> list[str]:
    """Names of the functions in a traceback, but those of kobs."""
    entries = traceback.extract_tb(error.__traceback__)
    return [entry.name for entry in entries if "kobs observe" not in entry.filename]


def unraisable(function: Callable[[], object]) -> list[object]:
    """What cannot be raised while a function runs."""
    told: list[object] = []
    before = sys.unraisablehook

    def tell(error: Any) -> None:
        about = repr(error.object).split(" at ")[0]
        told.append((repr(error.exc_value), error.err_msg, about.split(".")[-1]))

    sys.unraisablehook = tell
    try:
        function()
        gc.collect()
    finally:
        sys.unraisablehook = before
    return told


# -- steps in every state ----------------------------------------------------------------------

SCRIPTS = (
    "", "n", "s", "c", "t", "G", "nc", "ns", "nn", "nnn", "nnnn", "nt", "nG", "nnt", "ntc", "ntn",
    "cc", "cn", "ct", "tn", "nb", "nbn", "b", "bn", "B", "S", "nS",
)  # fmt: skip
"""What is done to a generator or coroutine, letter by letter (see `steps_of`)."""


def steps_of(made: Any) -> dict[str, Callable[[], object]]:
    return {
        "n": lambda: made.send(None),
        "s": lambda: made.send("sent"),
        "c": made.close,
        "t": lambda: made.throw(ValueError("thrown")),
        "G": lambda: made.throw(GeneratorExit),
        "b": lambda: made.throw(42),
        "B": lambda: made.throw(KeyError, ValueError("wrong"), None),
        "S": lambda: made.throw(StopIteration(3)),
    }


def in_every_state(make: Callable[[list[Any]], Any], prefix: str) -> Iterator[object]:
    state = inspect.getgeneratorstate if prefix == "gi_" else inspect.getcoroutinestate
    for script in SCRIPTS:
        log: list[Any] = []
        made = make(log)
        steps = steps_of(made)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield script, [outcome(steps[step]) for step in script]
            yield (
                getattr(made, f"{prefix}running"), getattr(made, f"{prefix}suspended"),
                getattr(made, f"{prefix}frame") is None, state(made),
            )  # fmt: skip
            del made, steps
        # What was thrown in may hold a frame, and that the rest. From 3.12 on it is so where the
        # coroutine awaits anything but one of CPython's own generators, observed or not: CPython
        # links their frames only, so that `f_back` of the frame in the traceback is whoever called
        # `throw`, here the function in `steps`, which holds the coroutine.
        gc.collect()
        yield log


@of_c_only
def generators_in_every_state(m: Any) -> object:
    return list(in_every_state(m.Steps().values, "gi_"))


@of_c_only
def coroutines_in_every_state(m: Any) -> object:
    return list(in_every_state(m.Steps().waits, "cr_"))


@probe
def generators_that_end_in_their_own_way(m: Any) -> object:
    answers: list[object] = []
    for name in ("swallowing", "failing_at_its_end"):
        for how in ("close", "throw"):
            made = getattr(m.Steps(), name)()
            next(made)
            answers.append(outcome(getattr(made, how), *[GeneratorExit][: how == "throw"]))

        def drop(name: str = name) -> None:
            next(getattr(m.Steps(), name)())

        answers.append(unraisable(drop))
    return answers


PAGE_SCRIPTS = (
    "", "a", "c", "t", "G", "s", "ac", "aac", "at", "aat", "aaa", "aaac", "as", "cc", "ca", "ct",
    "atc", "ata", "aG", "aGa",
)  # fmt: skip


def driven(awaitable: Any) -> Iterator[object]:
    """Every step of an awaitable."""
    try:
        while True:
            yield "yielded", awaitable.send(None)
    except BaseException as error:
        yield type(error).__name__, str(error), repr(error.args)


@of_c_only
def async_generators_in_every_state(m: Any) -> object:
    answers: list[object] = []
    for name in ("pages", "pages_swallowing", "pages_ignoring", "pages_waiting"):
        for script in PAGE_SCRIPTS:
            log: list[Any] = []
            made = getattr(m.Steps(), name)(*([log] if name in ("pages", "pages_waiting") else []))
            answers.append((name, script))
            for step in script:
                awaitable = {
                    "a": made.__anext__,
                    "s": lambda made=made: made.asend("sent"),
                    "c": made.aclose,
                    "t": lambda made=made: made.athrow(ValueError("thrown")),
                    "G": lambda made=made: made.athrow(GeneratorExit),
                }[step]()
                answers += driven(awaitable)
                answers.append((made.ag_running, made.ag_await, made.ag_frame is None))
            while outcome(made.aclose().send, None) != ("StopIteration", ""):
                answers.append("not closed yet")
                if len(answers) > 2000 or made.ag_frame is None:
                    break
            answers.append(log)
    return answers


@of_c_only
def steps_of_async_generators_out_of_order(m: Any) -> object:
    answers: list[object] = []
    log: list[Any] = []
    made = m.Steps().pages_waiting(log)
    first = made.__anext__()
    answers += [outcome(first.send, None), made.ag_running]
    answers += [*driven(made.aclose()), *driven(made.__anext__()), *driven(made.athrow(KeyError))]
    answers += driven(first)
    answers += [outcome(first.send, None), outcome(first.close), *driven(made.aclose()), log[:]]
    made = m.Steps().pages_waiting(log)
    first = made.__anext__()
    first.send(None)
    answers += [outcome(first.throw, KeyError("thrown")), outcome(first.throw, KeyError("again"))]
    answers += [*driven(first), *driven(made.aclose()), log[:]]
    for step in ("__anext__", "aclose"):
        made = m.Steps().pages_waiting(log)
        first = getattr(made, step)()
        answers += [outcome(first.throw, KeyError("early")), *driven(made.__anext__())]
        answers += driven(made.aclose())
        made = m.Steps().pages_waiting(log)
        first = getattr(made, step)()
        answers += [outcome(first.close), *driven(first), *driven(made.aclose())]
    made = m.Steps().pages(log)
    answers += [*driven(made.asend(5)), *driven(made.asend(None)), *driven(made.aclose())]
    return answers


@of_c_only
def hooks_of_async_generators(m: Any) -> object:
    told: list[object] = []

    def first(generator: Any) -> None:
        told.append(("first", type(generator).__name__))
        if failing:
            raise ValueError("by the hook")

    def last(generator: Any) -> None:
        told.append(("last", generator.ag_frame is not None))

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(first, last)
    try:
        for failing in (True, False):
            made = m.Steps().pages([])
            told.append(outcome(made.asend, None)) if failing else None
            told.append(list(driven(made.__anext__())))
            del made
            gc.collect()
        # a generator whose closing has begun is not closed by the loop
        made = m.Steps().pages_waiting([])
        step = made.__anext__()
        step.send(None)
        told.append(list(driven(step)))
        closing = made.aclose()
        closing.send(None)

        def drop() -> None:
            nonlocal closing, made, step
            del closing, made, step

        told.append(unraisable(drop))
    finally:
        sys.set_asyncgen_hooks(*before)
    return told


_audited: list[str] | None = None
_audits: list[bool] = []


@of_c_only
def nothing_is_audited(m: Any) -> object:
    """What an audit hook sees of an async generator's first step."""
    global _audited
    if not _audits:
        _audits.append(True)
        sys.addaudithook(lambda event, _: None if _audited is None else _audited.append(event))
    _audited = []
    try:
        list(driven(m.Steps().pages([]).__anext__()))
        return [event for event in _audited if "asyncgen" in event]
    finally:
        _audited = None


@of_c_only
def arguments_live_no_longer(m: Any) -> object:
    class Thing:
        pass

    answers = []
    for make in (m.Steps().drops, m.Steps().drops_later):
        thing = Thing()
        reference = weakref.ref(thing)
        made = make(thing)
        del thing
        made.send(None)
        if inspect.isgenerator(made):
            next(made)
        answers.append(reference() is None)
        made.close()
    return answers


# -- awaiting ----------------------------------------------------------------------------------


@types.coroutine
def delegating(inner: Any) -> Any:
    return (yield from inner)


def delegating_plainly(inner: Any) -> Any:
    return (yield from inner)


@of_c_only
def awaiting_twice(m: Any) -> object:
    async def main() -> object:
        shared = m.Steps().awaits(asyncio.sleep(0.01, 5))

        async def waits() -> object:
            return await shared

        answers = await asyncio.gather(waits(), waits(), return_exceptions=True)
        late = await asyncio.gather(waits(), return_exceptions=True)
        return [repr(answer) for answer in (*answers, *late)]

    return asyncio.run(main())


@of_c_only
def awaitables_in_terms_of_coroutines(m: Any) -> object:
    class Handing:
        def __await__(self) -> Any:
            return m.Steps().later(8).__await__()

    async def main() -> object:
        return await m.Managing(), await Handing()

    made = m.Steps().later()
    wrapper = made.__await__()
    answers = [
        type(wrapper).__name__, iter(wrapper) is wrapper, outcome(next, wrapper),
        outcome(wrapper.throw, ValueError("thrown")), outcome(wrapper.close),
        outcome(wrapper.send, None),
    ]  # fmt: skip
    return asyncio.run(main()), answers


@of_c_only
def iterating_over_coroutines(m: Any) -> object:
    async def main() -> list[object]:
        made = m.Steps().later(4)
        answers: list[object] = []
        for iterate in (iter, list, tuple):
            try:
                iterate(made)
            except TypeError as error:
                answers.append(str(error))
        try:
            for _ in made:
                pass
        except TypeError as error:
            answers.append(str(error))
        answers.append(await delegating(made))
        return answers

    made = m.Steps().later()
    try:
        plainly = outcome(list, delegating_plainly(made))
    finally:
        made.close()
    return asyncio.run(main()), plainly


@of_c_only
def coroutine_functions_made_so_later(m: Any) -> object:
    before = m.Steps.plain_values.__code__
    types.coroutine(m.Steps.plain_values)

    async def main() -> object:
        return await m.Steps().plain_values()

    try:
        made = main()
        return [*driven(made)], inspect.isawaitable(m.Steps().plain_values())
    finally:
        m.Steps.plain_values.__code__ = before


@of_c_only
def what_cannot_be_done(m: Any) -> object:
    """The words of the interpreter's refusals."""
    steps = m.Steps()
    made = steps.waits([])
    made.close()
    answers = []
    for thing in (m.Plain.method, steps.plain_values(), steps.pages([]), made):
        answers += [
            outcome(len, thing), outcome(lambda thing=thing: thing + 1),
            outcome(lambda thing=thing: thing[0]), outcome(lambda thing=thing: thing < thing),
            outcome(lambda thing=thing: float(thing)), outcome(setattr, thing, "__name__", 3),
        ]  # fmt: skip
        if thing is not m.Plain.method:
            answers += [outcome(copy.copy, thing), outcome(pickle.dumps, thing)]

    async def main() -> None:
        for thing in (m.Plain.method, steps.plain_values(), steps.pages([])):
            try:
                await thing
            except TypeError as error:
                answers.append(str(error))
        try:
            async for _ in steps.plain_values():
                pass
        except TypeError as error:
            answers.append(str(error))
        try:
            async with steps.plain_values():
                pass
        except TypeError as error:
            answers.append(str(error))

    asyncio.run(main())
    return answers


@of_c_only
def attributes(m: Any) -> object:
    """Everything that can be asked of each, by name and kind of answer."""
    steps = m.Steps()
    made = steps.later()
    answers = []
    asked = ("__await__", "__iter__", "__next__", "__aiter__", "__anext__", "__len__", "__del__")
    for thing in (m.Plain.method, made, steps.plain_values(), steps.pages([])):
        names = set(dir(thing)) - {"__wrapped__"}
        answers.append({n: type(getattr(thing, n)).__name__ for n in names if n != "__await__"})
        answers.append([hasattr(thing, name) for name in asked])
        answers.append(getattr(thing, "".join(["__na", "me__"])))  # a name that is not interned
        answers.append(getattr(thing, "".join(["__cla", "ss__"])).__name__)
        answers.append(repr(getattr(thing, "".join(["__d", "oc__"]))))
    made.close()
    return answers


@of_c_only
def warnings_about_what_nobody_awaits(m: Any) -> object:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        m.Steps().later()
        gc.collect()
        pages = m.Steps().pages([])
        pages.asend(None)
        pages.aclose()
        del pages
        gc.collect()
    here = warnings_about_what_nobody_awaits.__code__.co_firstlineno
    return [
        (str(each.message).split(" at ")[0], each.category.__name__, each.lineno - here,
         type(each.source).__name__, each.filename == __file__)
        for each in told
    ]  # fmt: skip


@of_c_only
def origins_of_coroutines(m: Any) -> object:
    sys.set_coroutine_origin_tracking_depth(2)
    try:
        made = m.Steps().later()
        try:
            return [name for _, _, name in made.cr_origin]
        finally:
            made.close()
    finally:
        sys.set_coroutine_origin_tracking_depth(0)


@of_c_only
def coroutines_seen_from_outside(m: Any) -> object:
    inner = m.Steps().later()
    made = m.Steps().awaits(inner)
    answers = [inspect.getcoroutinestate(made), made.cr_running, made.cr_await]
    made.send(None)
    answers += [
        inspect.getcoroutinestate(made), made.cr_await is inner, made.cr_frame.f_code.co_name,
        made.cr_await.cr_frame.f_code.co_name, made.cr_code.co_name,
        sorted(inspect.getcoroutinelocals(inner)),
    ]  # fmt: skip
    made.close()
    return [*answers, inspect.getcoroutinestate(made), made.cr_frame, inner.cr_frame]


@of_c_only
def stacks(m: Any) -> object:
    """No frame of kobs's is on the stack."""

    async def later(steps: Any) -> object:
        return await steps.stack_later(), [page async for page in steps.stack_of_pages()]

    def asked_of_all() -> object:
        steps = m.Steps()
        return steps.stack(), list(steps.stack_of_values()), asyncio.run(later(steps))

    return asked_of_all()


@of_c_only
def tasks_seen_from_outside(m: Any) -> object:
    async def main() -> object:
        task = asyncio.create_task(m.Steps().awaits(asyncio.sleep(30)), name="probe")
        await asyncio.sleep(0)
        printed = io.StringIO()
        task.print_stack(file=printed)
        answers = [
            [frame.f_code.co_name for frame in task.get_stack()],
            repr(task).split(" at ")[0], task.get_coro().__name__, printed.getvalue(),
        ]  # fmt: skip
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            answers.append(names_in(error))
        return answers

    return asyncio.run(main())


@probe
def a_loop_that_debugs(m: Any) -> object:
    async def main() -> object:
        return await m.Steps().later(3), await asyncio.create_task(m.Steps().later(4))

    return asyncio.run(main(), debug=True)


@probe
def context_variables(m: Any) -> object:
    variable, answers = m.VARIABLE, []

    def values() -> None:
        made = m.Steps().sets()
        answers.append((next(made), variable.get()))
        variable.set(9)
        answers.append((next(made), variable.get()))

    async def main() -> None:
        await m.Steps().sets_later()
        answers.append(variable.get())
        await asyncio.create_task(m.Steps().sets_later())
        answers.append(variable.get())
        async for page in m.Steps().sets_pages():
            answers.append((page, variable.get()))
            variable.set(8)

    contextvars.copy_context().run(values)
    contextvars.copy_context().run(asyncio.run, main())
    return answers


# -- calls, binding, exceptions ------------------------------------------------------------------


@of_c_only
def binding(m: Any) -> object:
    plain = m.Plain()
    method = vars(m.Plain)["method"]
    other = method.__get__(3, int)
    return [
        outcome(method.__get__), outcome(method.__get__, None, None),
        method.__get__(None, m.Plain) is method, outcome(method.__get__, plain, m.Plain, 1),
        outcome(method.__get__, owner=m.Plain),
        type(method.__get__(plain)).__name__, type(other).__name__, other.__self__, other(1),
        method.__get__(plain) == plain.method, hash(method.__get__(plain)) == hash(plain.method),
        type(method.__get__).__name__, type(method.__call__).__name__, method.__call__(plain, 1),
        method.__get__(plain).__get__(4)(1), method.__get__(None, m.Plain).__get__(plain)(2),
        outcome(setattr, plain.method, "x", 1), outcome(setattr, method, "__code__", 3),
        outcome(setattr, method, "__defaults__", 3), outcome(setattr, method, "__dict__", 3),
        outcome(delattr, method, "__name__"), outcome(getattr, method, "nothing"),
        outcome(delattr, method, "nothing"), outcome(setattr, method, "__closure__", ()),
        outcome(setattr, method, "__globals__", {}), method.__class__.__name__,
        isinstance(method, types.FunctionType),
        hash(method) == object.__hash__(method), bool(method),
        format(method).split(" at ")[0], outcome(format, method, "x"),
    ]  # fmt: skip


@probe
def wrong_calls_in_the_originals_words(m: Any) -> object:
    plain = m.Plain()
    method = m.Plain.method
    return [
        outcome(lambda: method(plain, 1, a=2)), outcome(lambda: method(plain, a=1, d=2)),
        outcome(lambda: method(plain, *[1, 2, 3])), outcome(lambda: method(plain, 1, c=2)),
        outcome(lambda: method(plain, 1, **{1: 2})), outcome(lambda: method(self=1, a=3)),
        outcome(method), outcome(lambda: method(plain, 1, 2, c=1, **dict(c=2)))[0],  # type: ignore[index]  # noqa: C408
        outcome(lambda: m.Plain.method()), outcome(lambda: plain.method(b=1)),
        outcome(lambda: plain.method(1, 2, 3, 4)), outcome(lambda: plain.method(1, self=2)),
        outcome(lambda: plain.method(1, "b", c="c")), outcome(lambda: plain.method(*"ab", c=0)),
        outcome(functools.partial(plain.method, 1, c=5)), outcome(functools.partial(method, plain)),
    ]  # fmt: skip


def chain(error: BaseException) -> list[str]:
    found: list[str] = []
    while error.__context__ is not None and len(found) < 5:
        error = error.__context__
        found.append(repr(error))
    return found


@probe
def exceptions_come_through_as_they_are(m: Any) -> object:
    plain, answers = m.Plain(), []
    for error in (
        ValueError("v"), KeyboardInterrupt("k"), SystemExit(3), GeneratorExit(), StopIteration(4),
        StopAsyncIteration(), RecursionError("r"), MemoryError(), BaseException("b"),
        asyncio.CancelledError("c"),
    ):  # fmt: skip
        for call in (
            lambda error=error: plain.fail(error),
            lambda error=error: list(plain.values_failing(error)),
            lambda error=error: list(driven_plainly(plain.fail_later(error))),
        ):
            error.__traceback__ = error.__context__ = error.__cause__ = None
            try:
                try:
                    raise KeyError("handled")
                except KeyError:
                    call()
            except BaseException as caught:
                answers.append(
                    (repr(caught), caught is error, chain(caught), repr(caught.__cause__),
                     caught.__suppress_context__, names_in(caught)[1:])
                )  # fmt: skip
    for name in ("noted", "from_none", "group", "by_the_interpreter", "by_a_builtin"):
        try:
            getattr(plain, name)()
        except Exception as caught:
            answers.append(
                (repr(caught), chain(caught), caught.__suppress_context__, names_in(caught)[1:],
                 getattr(caught, "__notes__", None))
            )  # fmt: skip
    return answers, sys.exc_info()


def driven_plainly(made: Any) -> Iterator[object]:
    while True:
        try:
            yield made.send(None)
        except StopIteration:
            return


# -- classes ---------------------------------------------------------------------------------------


@probe
def metaclasses(m: Any) -> object:
    return m.OfMeta().method(), isinstance(5, m.OfMeta), m.OfMeta.prepared, m.OfMeta[3]


@probe
def special_methods(m: Any) -> object:
    special, sub = m.Special(1, 2), type("Sub", (m.Special,), {}, x=1)
    return [
        special.made_of, special.given, sub.options, m.Special[4], sub[4], repr(special),
        1 in special, 2 in special, special + 3, outcome(lambda: 3 + special),
        outcome(lambda: special < 3), bool(special), f"{special:z}", [1, 2, 3][special],
        special.zed,
        outcome(lambda: special.bad), hasattr(special, "bad"), list(iter(special)),
        outcome(len, special), outcome(m.Special, k=1), m.Special.__new__(m.Special, 5).made_of,
    ]  # fmt: skip


@probe
def the_end_of_instances(m: Any) -> object:
    del m.Dying.dead[:]
    m.Dying()
    told = unraisable(m.DyingBadly)
    return m.Dying.dead, [(error, message) for error, message, _ in told]  # type: ignore[misc]


@probe
def descriptors_and_names(m: Any) -> object:
    uses = type("Uses", (), {"x": m.Named()})
    return uses.x, uses().x


@probe
def managers_and_iterators(m: Any) -> object:
    with m.Managing() as entered:
        raise KeyError

    async def main() -> object:
        async with m.Managing() as entered_later:
            raise KeyError
        try:
            async with m.Managing():
                raise ValueError("through")
        except ValueError as error:
            through = str(error), names_in(error)
        return entered_later, through, [i async for i in m.Managing()], await m.Managing()

    return entered, asyncio.run(main())


@probe
def dataclasses_flags_protocols(m: Any) -> object:
    import dataclasses

    class Other:
        def speak(self) -> str:
            return "other"

    return [
        repr(m.Data(1)), m.Data(1).method(), dataclasses.asdict(m.Data(2)), m.Data(1) == m.Data(1),
        repr(dataclasses.replace(m.Data(1), x=3)), m.Data.__match_args__,
        (m.Options.ONE | m.Options.TWO).method(), m.Options("x") is m.Options.ONE,
        list(m.Options.__members__), isinstance(Other(), m.SpeaksChecked),
        issubclass(Other, m.SpeaksChecked), isinstance(3, m.SpeaksChecked), outcome(m.Speaks),
        m.Speaker().speak(), typing.get_type_hints(m.Speaks.speak),
    ]  # fmt: skip


@probe
def abstract_methods(m: Any) -> object:
    return [
        outcome(m.Abstract), m.Concrete().method(), m.Concrete.klass(), m.Concrete().klass(),
        sorted(m.Abstract.__abstractmethods__), m.Abstract.method.__isabstractmethod__,
    ]  # fmt: skip


@probe
def functools_over_methods(m: Any) -> object:
    tools = m.Tools()

    class Uses(m.Tools):  # type: ignore[misc, name-defined]
        partial = functools.partialmethod(m.Tools.base, 4)
        cached = functools.cached_property(m.Tools.base)

    wrapped = functools.wraps(m.Tools.base)(lambda *args: args)
    return [
        tools.dispatch(1), tools.dispatch(""), tools["k"], Uses().partial(5), Uses().partial(b=6),
        functools.partial(m.Tools.base, tools)(3), functools.lru_cache(m.Tools.base)(tools, 1),
        functools.singledispatch(m.Tools.base)(tools, 1), outcome(lambda: Uses().cached),
        wrapped.__name__, wrapped.__wrapped__ is m.Tools.base, str(inspect.signature(wrapped)),
        str(inspect.signature(functools.partial(m.Tools.base, tools))),
        m.Ordered(1) >= m.Ordered(0), m.Ordered(1) == m.Ordered(1), outcome(hash, m.Ordered(1)),
    ]  # fmt: skip


@probe
def mocks_with_a_specification(m: Any) -> object:
    mocked = mock.create_autospec(m.Plain)
    made = mocked()
    made.method.return_value = 3
    return [
        made.method(1), outcome(made.method, 1, 2, 3), type(mocked.method).__name__,
        type(made.fail_later).__name__, type(mock.create_autospec(m.Plain.method)).__name__,
    ]  # fmt: skip


# -- profilers and debuggers -----------------------------------------------------------------------


def seen(install: Callable[[Any], None], m: Any) -> list[object]:
    steps, told = m.Steps(), []

    def tell(frame: Any, event: str, arg: Any) -> Any:
        if frame.f_globals.get("__name__") == m.__name__:
            told.append((event, frame.f_code.co_name, frame.f_lineno))
        return tell

    def use() -> None:
        m.Plain().method(1)
        outcome(m.Plain().by_the_interpreter)
        list(steps.plain_values())
        made = steps.plain_values()
        next(made)
        made.close()
        list(driven(steps.waits([])))
        list(driven(steps.pages([]).__anext__()))

    install(tell)
    try:
        use()
    finally:
        install(None)
    return told


@of_c_only
def profilers(m: Any) -> object:
    return seen(sys.setprofile, m)


@of_c_only
def debuggers(m: Any) -> object:
    return seen(sys.settrace, m)


@of_c_only
def monitoring(m: Any) -> object:
    """The events of the program's own code, but those of a StopIteration: a `for` over an observed
    generator is over without one, an `await` of an observed coroutine has one."""
    if sys.version_info < (3, 12):
        return None
    tool, told, events = 3, [], sys.monitoring.events
    names = ("PY_START", "PY_RETURN", "PY_YIELD", "PY_RESUME", "PY_THROW", "PY_UNWIND", "RERAISE",
             "EXCEPTION_HANDLED")  # fmt: skip

    def install(on: object) -> None:
        if on is None:
            sys.monitoring.set_events(tool, 0)
            sys.monitoring.free_tool_id(tool)
            return
        sys.monitoring.use_tool_id(tool, "probe")
        for name in names:

            def tell(code: Any, *_: object, name: str = name) -> None:
                if code.co_filename == m.__file__:
                    told.append((name, code.co_name))

            sys.monitoring.register_callback(tool, getattr(events, name), tell)
        sys.monitoring.set_events(tool, sum(getattr(events, name) for name in names))

    seen(install, m)
    return told
