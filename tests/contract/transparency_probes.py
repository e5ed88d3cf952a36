"""Questions to a class, asked of a bare and of an observed copy of the same module.

Every probe takes the module and gives an answer that can be compared: built of plain values, in
which no object of the module itself is left.
"""

import asyncio
import contextlib
import copy
import functools
import gc
import inspect
import logging
import pickle
import sys
import traceback
import typing
import warnings
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

from tests.collecting import collect_all

Probe = Callable[[Any], object]
PROBES: dict[str, Probe] = {}

ROUTINES = [
    ("Plain", "simple"), ("Plain", "annotated"), ("Plain", "positional_only"),
    ("Plain", "everything"), ("Plain", "star"), ("Plain", "none"), ("Plain", "__call__"),
    ("Kinds", "static"), ("Kinds", "klass"), ("Kinds", "made"), ("Kinds", "partial"),
    ("Kinds", "remembered"), ("Kinds", "managed"), ("Steps", "numbers"), ("Steps", "add"),
    ("Steps", "each"), ("Abstract", "must"), ("Data", "total"), ("Box", "get"),
]  # fmt: skip


def probe(function: Probe) -> Probe:
    PROBES[function.__name__] = function
    return function


def outcome(function: Callable[..., object], *args: object, **kwargs: object) -> object:
    """What a call gives, or the exception in words."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        return type(error).__name__, str(error), frames(error)


def frames(error: BaseException) -> list[str]:
    """Names of the functions in a traceback, without the frames that kobs added and without
    the probe's own."""
    return [
        entry.name
        for entry in traceback.extract_tb(error.__traceback__)
        if "kobs observe" not in entry.filename and entry.filename != __file__
    ]


def added_frames(error: BaseException) -> int:
    return sum(
        "kobs observe" in entry.filename for entry in traceback.extract_tb(error.__traceback__)
    )


def routine(module: Any, cls: str, name: str) -> Any:
    return getattr(getattr(module, cls), name)


def of_routines(question: Callable[[Any], object]) -> Callable[[Any], object]:
    def ask(module: Any) -> object:
        return {f"{c}.{n}": outcome(question, routine(module, c, n)) for c, n in ROUTINES}

    return ask


def plain_name(module: ModuleType, text: object) -> str:
    return str(text).replace(module.__name__, "subjects")


# -- what can be asked about a function ------------------------------------------------------

PROBES["signature"] = of_routines(lambda f: str(inspect.signature(f)))
PROBES["doc"] = of_routines(lambda f: f.__doc__)
PROBES["name"] = of_routines(lambda f: f.__name__)
PROBES["qualname"] = of_routines(lambda f: f.__qualname__)
PROBES["getdoc"] = of_routines(inspect.getdoc)
PROBES["source"] = of_routines(inspect.getsource)
PROBES["source lines"] = of_routines(lambda f: inspect.getsourcelines(f)[1])
PROBES["defaults"] = of_routines(lambda f: repr((f.__defaults__, f.__kwdefaults__)))
PROBES["argument names"] = of_routines(
    lambda f: f.__code__.co_varnames[: f.__code__.co_argcount + f.__code__.co_kwonlyargcount]
)
PROBES["argument counts"] = of_routines(
    lambda f: (f.__code__.co_argcount, f.__code__.co_posonlyargcount, f.__code__.co_kwonlyargcount)
)
PROBES["argspec"] = of_routines(lambda f: repr(inspect.getfullargspec(f)))
PROBES["is function"] = of_routines(inspect.isfunction)
PROBES["is method"] = of_routines(inspect.ismethod)
PROBES["is routine"] = of_routines(inspect.isroutine)
PROBES["is builtin"] = of_routines(inspect.isbuiltin)
PROBES["is coroutine function"] = of_routines(inspect.iscoroutinefunction)
PROBES["is generator function"] = of_routines(inspect.isgeneratorfunction)
PROBES["is async generator function"] = of_routines(inspect.isasyncgenfunction)
PROBES["asyncio's view"] = of_routines(inspect.iscoroutinefunction)
PROBES["abstract"] = of_routines(lambda f: getattr(f, "__isabstractmethod__", False))
PROBES["callable"] = of_routines(callable)
PROBES["type"] = of_routines(lambda f: type(f).__name__ if inspect.isfunction(f) else "other")


@probe
def modules(m: Any) -> object:
    return {f"{c}.{n}": routine(m, c, n).__module__ == m.__name__ for c, n in ROUTINES}


@probe
def globals_are_the_modules(m: Any) -> object:
    return {
        f"{c}.{n}": getattr(routine(m, c, n), "__globals__", None) is vars(m) for c, n in ROUTINES
    }


@probe
def annotations(m: Any) -> object:
    return {
        f"{c}.{n}": plain_name(m, getattr(routine(m, c, n), "__annotations__", None))
        for c, n in ROUTINES
    }


@probe
def type_hints(m: Any) -> object:
    return [
        plain_name(m, typing.get_type_hints(m.Plain.annotated)),
        plain_name(m, typing.get_type_hints(m.Box.get)),
        plain_name(m, typing.get_type_hints(m.Steps.each)),
        plain_name(m, typing.get_type_hints(m.Plain)),
    ]


@probe
def evaluated_annotations(m: Any) -> object:
    return plain_name(m, inspect.get_annotations(m.Plain.annotated, eval_str=True))


@probe
def unwrapping_ends_at_a_function_with_the_original_code(m: Any) -> object:
    inner = inspect.unwrap(m.Plain.simple)
    return inner.__code__.co_firstlineno, inner.__code__.co_name, hasattr(inner, "__wrapped__")


@probe
def members(m: Any) -> object:
    return {cls.__name__: sorted(name for name, _ in inspect.getmembers(cls)) for cls in m.OBSERVED}


def with_own_methods_only(m: Any) -> list[type]:
    """What a class inherits from outside of the module is wrapped in its own `__dict__`."""
    return [cls for cls in m.OBSERVED if cls not in (m.Color, m.Pair)]


@probe
def class_dicts(m: Any) -> object:
    return {cls.__name__: list(vars(cls)) for cls in with_own_methods_only(m)}


@probe
def descriptor_types(m: Any) -> object:
    return {
        f"{cls.__name__}.{name}": type(value).__name__
        for cls in with_own_methods_only(m)
        for name, value in vars(cls).items()
        if "lru_cache" not in type(value).__name__ and name != "remembered"
    }


@probe
def attribute_kinds(m: Any) -> object:
    return {
        cls.__name__: [(a.name, a.kind) for a in inspect.classify_class_attrs(cls)]
        for cls in with_own_methods_only(m)
    }


@probe
def class_identity(m: Any) -> object:
    return [
        (cls is getattr(m, cls.__name__), cls.__name__, cls.__qualname__, cls.__doc__,
         [base.__name__ for base in cls.__mro__])
        for cls in m.OBSERVED
    ]  # fmt: skip


@probe
def class_sources(m: Any) -> object:
    return [inspect.getsource(cls) for cls in m.OBSERVED]


@probe
def bound_methods(m: Any) -> object:
    one, other = m.Plain("a"), m.Plain("b")
    return [
        one.simple == one.simple,
        one.simple == other.simple,
        hash(one.simple) == hash(one.simple),
        one.simple.__self__ is one,
        one.simple.__func__ is m.Plain.simple,
        m.Plain.simple is m.Plain.simple,
        m.Plain.simple == m.Plain.simple,
        type(one.simple).__name__,
        m.Plain.simple.__get__(one)(1) == one.simple(1),
        plain_name(m, repr(one.simple)).split(" of ")[0],
        one.simple in {one.simple: 1},
        len({m.Plain.simple, m.Plain.none, m.Plain.simple}),
    ]


@probe
def function_attributes(m: Any) -> object:
    m.Plain.simple.tag = "set"
    try:
        return m.Plain.simple.tag, m.Plain().simple.tag
    finally:
        del m.Plain.simple.tag


# -- calling -----------------------------------------------------------------------------------


@probe
def calls(m: Any) -> object:
    p = m.Plain()
    return [
        p.none() is p,
        p.simple(1), p.simple(1, 3), p.simple(1, c=9), p.simple(a=1, b=2, c=3),
        p.annotated(1, None, "x", c=1.0, z=b"") is p,
        p.positional_only(1, 2)[:2], p.positional_only(1, b=2, c=3),
        p.positional_only(1, 2)[2] is m.SENTINEL,
        p.everything(1, 2, 3, 4, c=5, e=6), p.everything(1, b=2, c=3, a=7, self=8),
        p.star(1, 2, self=3), p.mutable([]), m.Plain.simple(p, 1), p.recursive(5),
        p.private(), p(4), len(p), p["k"], p.alias(1), p._private_alias(2),
        p == m.Plain(), hash(p) == hash(m.Plain()), m.Plain("x") == p,
    ]  # fmt: skip


@probe
def results_are_the_same_object(m: Any) -> object:
    value = object()
    return m.Plain().same(value) is value, m.Kinds().remembered(1) is not None


@probe
def wrong_calls(m: Any) -> object:
    p = m.Plain()
    return [
        outcome(p.simple), outcome(p.simple, 1, 2, 3), outcome(p.simple, 1, z=2),
        outcome(p.simple, 1, a=2), outcome(p.positional_only, a=1, b=2),
        outcome(p.everything, 1, 2), outcome(m.Plain.simple), outcome(m.Kinds.static),
        outcome(m.Kinds.klass), outcome(m.Plain, 1, 2, 3), outcome(p), outcome(m.Steps().add),
        outcome(m.Steps().numbers), outcome(m.Steps().each), outcome(p.star, 1),
    ]  # fmt: skip


@probe
def mutable_defaults_are_shared(m: Any) -> object:
    p = m.Plain()
    del m.Plain.mutable.__defaults__[0][:]
    first, second = p.mutable(), p.mutable()
    return first is second, first is m.Plain.mutable.__defaults__[0], list(second)


@probe
def exceptions(m: Any) -> object:
    p, error = m.Plain(), m.Failure("mine")
    try:
        p.fail(error)
    except m.Failure as caught:
        same = caught is error
        context = caught.__context__, caught.__cause__, caught.__suppress_context__
        names = frames(caught)
    return same, context, names, outcome(p.fail), outcome(p.fail, KeyboardInterrupt("now"))


@probe
def exception_chains(m: Any) -> object:
    try:
        m.Plain().fail_from()
    except m.Failure as error:
        cause = error.__cause__
        return repr(cause), cause is error.__context__, frames(error), frames(cause)


@probe
def exceptions_being_handled_are_seen(m: Any) -> object:
    try:
        raise KeyError("handled")
    except KeyError as error:
        return m.Plain().fail_in_handler() is error, sys.exc_info()[1] is error


@probe
def exceptions_handled_before_leave_no_trace(m: Any) -> object:
    caught = m.Plain().swallow()
    return type(caught).__name__, caught.__context__, sys.exc_info()[1]


@probe
def exceptions_form_no_cycles(m: Any) -> object:
    def fail_in_every_way() -> None:
        for name in ("fail", "fail_from"):
            with contextlib.suppress(m.Failure):
                getattr(m.Plain(), name)()
        with contextlib.suppress(m.Failure):
            list(m.Steps().raising())
        with contextlib.suppress(m.Failure, StopIteration):
            m.Steps().fail().send(None)
        generator = m.Steps().context()
        next(generator)
        with contextlib.suppress(KeyError):
            generator.throw(m.Failure())
        later = m.Steps().each_catches()
        with contextlib.suppress(StopIteration):
            later.asend(None).send(None)
        with contextlib.suppress(KeyError):
            later.athrow(KeyError()).send(None)

    fail_in_every_way()  # what is made on first use (a recording's types) leaves cycles
    collect_all()
    gc.disable()
    try:
        fail_in_every_way()
        return gc.collect()
    finally:
        gc.enable()


@probe
def stack_levels(m: Any) -> object:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        m.Plain().warn()
    records: list[Any] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("subject")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        m.Plain().log()
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    here = stack_levels.__code__
    return (
        caught[0].filename == __file__,
        caught[0].lineno - here.co_firstlineno,
        records[0].funcName,
        records[0].lineno - here.co_firstlineno,
    )


@probe
def with_statements(m: Any) -> object:
    with m.Plain() as entered:
        raise m.Failure
    with m.Kinds().managed(3) as value:
        raise m.Failure
    return type(entered).__name__, value  # type: ignore[unreachable]


# -- kinds of methods ----------------------------------------------------------------------------


@probe
def static_and_class_methods(m: Any) -> object:
    k, sub = m.Kinds(), type("Sub", (m.Kinds,), {})
    return [
        k.static(1), m.Kinds.static(1, b=2), k.klass(1)[0] is m.Kinds, sub.klass(1)[0] is sub,
        sub.static(3), m.Kinds.klass.__self__ is m.Kinds,
        m.Kinds.__dict__["static"](4), m.Kinds.__dict__["klass"].__func__(int, 2)[0] is int,
        m.Kinds.__dict__["static"].__func__ is m.Kinds.static,
        m.Base.create("x").tag, m.Left.create().who(),
    ]  # fmt: skip


@probe
def properties(m: Any) -> object:
    k = m.Kinds()
    answers = [outcome(lambda: k.depth)]
    k.depth = 5
    answers += [k.depth, m.Kinds.depth.__doc__, m.Kinds.depth.fget.__name__]
    del k.depth
    answers.append(hasattr(k, "depth"))
    answers += [k.fixed, outcome(setattr, k, "fixed", 1), outcome(delattr, k, "fixed")]
    answers.append(isinstance(m.Kinds.depth, property))
    answers.append(inspect.isdatadescriptor(m.Kinds.depth))
    return answers


@probe
def functools_descriptors(m: Any) -> object:
    k = m.Kinds()
    m.Kinds.count = 0
    same = k.cached is k.cached
    return [
        same, m.Kinds.count, k.dispatch("x"), k.dispatch(3), k.partial(2),
        k.remembered(1) is k.remembered(1), m.Kinds.remembered.cache_info().hits > 0,
        m.Kinds.remembered.cache_clear(), m.Kinds.Nested().inner(3), k.made(4),
    ]  # fmt: skip


@probe
def inheritance(m: Any) -> object:
    class After(m.Diamond):
        def who(self) -> object:
            return ["After", *super().who()]

    class Unchanged(m.Plain):
        pass

    return [
        m.Diamond().who(), After().who(), Unchanged().simple(1), Unchanged().none().name,
        m.Diamond().only_base(), m.Heir().only_base(5), m.Heir().who(), m.Joined().who(),
        m.Joined().only_base(), m.Heir.create("h").tag, m.Left.registered, After.registered,
        "simple" in vars(Unchanged), Unchanged.simple is m.Plain.simple,
        issubclass(After, m.Base), m.Heir().only_base.__self__.tag,
    ]  # fmt: skip


@probe
def overriding_and_assigning(m: Any) -> object:
    class Over(m.Plain):
        simple = None

    p = m.Plain()
    p.simple = lambda a: "own"
    answers = [Over.simple, p.simple(1)]
    del p.simple
    answers.append(p.simple(1))
    return answers


@probe
def abstract_classes(m: Any) -> object:
    return [
        outcome(m.Abstract)[1],  # type: ignore[index]
        sorted(m.Abstract.__abstractmethods__), m.Concrete().must(), m.Concrete().may(),
        inspect.isabstract(m.Abstract), inspect.isabstract(m.Concrete),
        type("Sub", (m.Abstract,), {"must": lambda self: 1})().must(),
    ]  # fmt: skip


@probe
def special_classes(m: Any) -> object:
    return [
        m.Slotted(4).get(), outcome(setattr, m.Slotted(), "y", 1)[0],  # type: ignore[index]
        m.Data(1, [2]).total(), m.Data(1) == m.Data(1), m.Data(1) < m.Data(2), repr(m.Data(1)),
        m.Frozen(2).double(), hash(m.Frozen(1)) == hash(m.Frozen(1)),
        m.Color.RED.describe(), m.Color(1) is m.Color.RED, m.Box[int](3).get(),
        m.Pair(1, 2).total(), m.Pair(1, 2)._asdict(), m.Pair._fields,
    ]  # fmt: skip


@probe
def dataclass_helpers(m: Any) -> object:
    import dataclasses

    return [
        [f.name for f in dataclasses.fields(m.Data)], dataclasses.asdict(m.Data(1, [2])),
        dataclasses.replace(m.Data(1), x=5).total(),
    ]  # fmt: skip


@probe
def wrapped_again(m: Any) -> object:
    @functools.wraps(m.Plain.simple)
    def over(*args: Any, **kwargs: Any) -> object:
        return m.Plain.simple(*args, **kwargs)

    return [
        over(m.Plain(), 1), over.__name__, str(inspect.signature(over)),
        functools.partial(m.Plain().simple, 1)(),
        functools.reduce(lambda a, b: m.Plain().simple(a, b), [1, 2, 3]),
        list(map(m.Plain().same, [1, 2])), sorted([3, 1], key=m.Plain().same),
    ]  # fmt: skip


# -- copies, pickles, references -----------------------------------------------------------------


@probe
def pickles(m: Any) -> object:
    p = m.Plain("kept")
    answers: list[object] = []
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):

        def again(value: Any, protocol: int = protocol) -> Any:
            return pickle.loads(pickle.dumps(value, protocol))

        answers += [
            again(p).name, again(m.Plain) is m.Plain, again(p) == p,
            again(m.Data(1, [2])) == m.Data(1, [2]), again(m.Color.RED) is m.Color.RED,
            again(m.Pair(1, 2)),
        ]  # fmt: skip
        if protocol >= 4:
            answers += [
                again(m.Plain.simple) is m.Plain.simple, again(p.simple)(1),
                again(m.Kinds.static) is m.Kinds.static, again(m.Kinds.klass)(1)[0] is m.Kinds,
                again(m.Slotted(3)).get(), again(m.Frozen(3)).double(),
                again(m.Kinds.Nested.inner) is m.Kinds.Nested.inner,
            ]  # fmt: skip
    answers.append(plain_name(m, pickle.dumps(p, 0)))
    return answers


@probe
def pickle_sizes(m: Any) -> object:
    return len(pickle.dumps(m.Plain("x"))) - len(m.__name__)


@probe
def copies(m: Any) -> object:
    p = m.Plain("orig")
    p.calls.append([1])
    shallow, deep = copy.copy(p), copy.deepcopy(p)
    return [
        shallow.name, shallow.calls is p.calls, deep.calls is p.calls, deep.calls,
        copy.copy(m.Plain.simple) is m.Plain.simple,
        copy.deepcopy(m.Plain.simple) is m.Plain.simple,
        copy.deepcopy(p.simple).__self__ is p, copy.deepcopy(p.simple)(1), vars(shallow).keys(),
        copy.deepcopy(m.Data(1, [2])) == m.Data(1, [2]),
    ].__str__()  # fmt: skip


@probe
def references(m: Any) -> object:
    p = m.Plain()
    reference, method = weakref.ref(p), weakref.WeakMethod(p.simple)
    alive = reference() is p, method()(1)  # type: ignore[misc]
    function = weakref.ref(m.Plain.simple)() is m.Plain.simple
    p.simple(1)
    p.none()
    del p
    return alive, function, reference() is None, method() is None, outcome(weakref.ref, m.Slotted())


@probe
def reference_counts(m: Any) -> object:
    p, value = m.Plain(), object()
    before = sys.getrefcount(value), sys.getrefcount(p)
    for _ in range(10):
        p.same(value)
        p.simple(1)
        outcome(p.fail)
    return sys.getrefcount(value) - before[0], sys.getrefcount(p) - before[1]


@probe
def classes_can_go(m: Any) -> object:
    p = m.Plain()
    p.self = p
    reference = weakref.ref(p)
    del p
    gc.collect()
    return reference() is None


@probe
def instance_state(m: Any) -> object:
    p = m.Plain("s")
    p.simple(1)
    outcome(p.fail)
    return sorted(vars(p)), dir(p) == dir(type(p)("t"))


# -- generators ----------------------------------------------------------------------------------


@probe
def generators(m: Any) -> object:
    s = m.Steps()
    g = s.numbers(3)
    answers = [
        inspect.isgenerator(g), type(g).__name__, g.__name__, g.__qualname__,
        inspect.getgeneratorstate(g), next(g), inspect.getgeneratorstate(g), g.send("sent"),
        g.gi_running, next(g), outcome(next, g), inspect.getgeneratorstate(g), list(s.seen),
        outcome(next, g), list(m.Steps().numbers(4)),
    ]  # fmt: skip
    try:
        while True:
            next(g)
    except StopIteration as stop:
        answers.append(stop.value)
    return answers


@probe
def generator_return_values(m: Any) -> object:
    def delegate() -> Any:
        return (yield from m.Steps().numbers(2))

    g = delegate()
    values = [next(g), g.send("x")]
    try:
        g.send("y")
    except StopIteration as stop:
        return values, stop.value


@probe
def generators_closed(m: Any) -> object:
    s = m.Steps()
    fresh, begun = s.numbers(3), s.numbers(3)
    next(begun)
    answers = [fresh.close() is None, begun.close() in (None, "done"), begun.close() is None]
    stubborn = s.stubborn()
    next(stubborn)
    answers.append(outcome(stubborn.close)[:2])  # type: ignore[index]
    polite = s.polite()
    next(polite)
    answers.append(polite.close())
    return answers, s.seen


@probe
def generators_dropped(m: Any) -> object:
    s = m.Steps()
    g = s.numbers(3)
    next(g)
    del g
    return s.seen


@probe
def generators_thrown_into(m: Any) -> object:
    s = m.Steps()
    error = m.Failure("thrown")
    g = s.catching()
    answers = [next(g), g.throw(error), s.seen[0] is error, next(g)]
    answers.append(outcome(g.throw, KeyError("other")))
    fresh = s.numbers(1)
    answers.append(outcome(fresh.throw, m.Failure("early"))[:2])  # type: ignore[index]
    g = s.polite()
    next(g)
    answers.append(outcome(g.throw, GeneratorExit))
    g = s.stubborn()
    next(g)
    answers.append(g.throw(GeneratorExit))
    answers.append(frames(error))
    s.seen.clear()
    return answers


@probe
def generators_and_contexts(m: Any) -> object:
    answers: list[object] = []
    for name in ("context", "after_handled"):
        s = m.Steps()
        g = getattr(s, name)()
        next(g)
        try:
            g.throw(m.Failure("first"))
        except KeyError as error:
            answers += [repr(error), repr(error.__context__), frames(error)]
            if error.__context__ is not None:
                answers.append(frames(error.__context__))
        answers.append(s.seen)
    return answers


@probe
def generators_that_fail(m: Any) -> object:
    return [
        outcome(list, m.Steps().raising()),
        outcome(list, m.Steps().stopping()),
    ]


@probe
def generator_left_by_its_driver(m: Any) -> object:
    s = m.Steps()
    for value in s.numbers(5):
        if value == 1:
            break
    del value
    gc.collect()
    return s.seen


# -- coroutines ----------------------------------------------------------------------------------


@probe
def coroutines(m: Any) -> object:
    s = m.Steps()
    c = s.add(1, b=2)
    return [
        inspect.iscoroutine(c), inspect.isawaitable(c), type(c).__name__, c.__name__,
        c.__qualname__, inspect.getcoroutinestate(c), asyncio.iscoroutine(c),
        hasattr(c, "cr_await"), asyncio.run(c), inspect.getcoroutinestate(c),
        outcome(c.send, None),
    ]  # fmt: skip


@probe
def coroutines_driven_by_hand(m: Any) -> object:
    class Awaitable:
        def __await__(self) -> Any:
            got = yield "asked"
            return got

    s = m.Steps()
    c = s.wait(Awaitable())
    answers: list[object] = [c.send(None)]
    try:
        c.send("answer")
    except StopIteration as stop:
        answers.append(stop.value)
    c = s.wait(Awaitable())
    c.send(None)
    answers.append(outcome(c.throw, m.Failure("thrown")))
    c = s.wait(Awaitable())
    c.send(None)
    answers += [c.close(), list(s.seen)]
    c = s.stubborn_wait(Awaitable())
    c.send(None)
    answers.append(outcome(c.close)[:2])  # type: ignore[index]
    c = s.wait(Awaitable())
    c.close()
    answers.append(len(s.seen))
    return answers


@probe
def coroutines_that_fail(m: Any) -> object:
    return outcome(asyncio.run, m.Steps().fail())[:2]  # type: ignore[index]


@probe
def tasks_cancelled(m: Any) -> object:
    async def main() -> object:
        s = m.Steps()
        task = asyncio.ensure_future(s.wait(asyncio.sleep(30)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel("stop")
        try:
            await task
        except asyncio.CancelledError as error:
            return str(error), task.cancelled(), s.seen, task.get_coro().__qualname__  # type: ignore[union-attr]
        return None

    return asyncio.run(main())


@probe
def timeouts(m: Any) -> object:
    async def main() -> object:
        s = m.Steps()
        try:
            async with asyncio.timeout(0.01):
                await s.wait(asyncio.sleep(30))
        except TimeoutError:
            return s.seen
        return None

    return asyncio.run(main())


@probe
def tasks_gathered(m: Any) -> object:
    async def main() -> object:
        s = m.Steps()
        return await asyncio.gather(
            s.add(1), s.add(2), s.wait(s.add(5)), s.fail(), return_exceptions=True
        )

    return str(asyncio.run(main()))


@probe
def a_context_variable_set_inside_stays(m: Any) -> object:
    import contextvars

    variable: Any = contextvars.ContextVar("v", default=0)

    async def setter() -> None:
        await asyncio.sleep(0)
        variable.set(5)

    async def main() -> object:
        await m.Steps().wait(setter())
        return variable.get()

    return asyncio.run(main())


@probe
def task_groups(m: Any) -> object:
    async def main() -> object:
        s = m.Steps()
        said: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(s.wait(asyncio.sleep(30)))
                group.create_task(s.fail())
        except* m.Failure as errors:
            said += [str(error) for error in errors.exceptions]
        return said, s.seen

    return asyncio.run(main())


# -- async generators ------------------------------------------------------------------------------


@probe
def async_generators(m: Any) -> object:
    async def main() -> object:
        s = m.Steps()
        g = s.each(3)
        answers: list[object] = [
            inspect.isasyncgen(g), type(g).__name__, g.__name__, g.__qualname__,
            await anext(g), await g.asend("sent"), [x async for x in g], list(s.seen),
            await anext(g, "over"), await g.aclose(),
        ]  # fmt: skip
        other = m.Steps()
        async for value in other.each(5):
            if value == 1:
                break
        return answers, [x async for x in m.Steps().each(2)]

    return asyncio.run(main())


@probe
def async_generators_closed(m: Any) -> object:
    async def main() -> object:
        s = m.Steps()
        g = s.each(3)
        await anext(g)
        closed = await g.aclose()
        fresh = s.each(3)
        await fresh.aclose()
        stubborn = s.each_stubborn()
        await anext(stubborn)
        try:
            await stubborn.aclose()
        except RuntimeError as error:
            said = str(error)
        return closed, s.seen, said

    return asyncio.run(main())


@probe
def async_generators_thrown_into(m: Any) -> object:
    async def main() -> object:
        s = m.Steps()
        g = s.each_catches()
        answers: list[object] = [
            await anext(g),
            await g.athrow(m.Failure("thrown")),
            await anext(g),
        ]
        try:
            await g.athrow(KeyError("other"))
        except KeyError as error:
            answers += [repr(error), frames(error)]
        try:
            [x async for x in s.each_fails()]
        except m.Failure as error:
            answers += [str(error), frames(error), error.__context__]
        return answers

    return asyncio.run(main())


@probe
def async_generators_left_open_are_closed_by_the_loop(m: Any) -> object:
    s = m.Steps()

    async def main() -> None:
        main.g = s.each(3)  # type: ignore[attr-defined]
        await anext(main.g)  # type: ignore[attr-defined]

    loop = asyncio.new_event_loop()
    problems: list[object] = []
    loop.set_exception_handler(lambda _, context: problems.append(str(context.get("exception"))))
    try:
        loop.run_until_complete(main())
        known = len(loop._asyncgens)  # type: ignore[attr-defined]
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
    return s.seen, problems, known


@probe
def async_generators_dropped(m: Any) -> object:
    s = m.Steps()

    async def main() -> None:
        g = s.each(3)
        await anext(g)
        del g
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(main())
    return s.seen
