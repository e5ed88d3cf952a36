"""Observed callables of the C core: what a generated wrapper would do, described for C.

The extractors write the same expressions as for a generated wrapper; here they are read, not
compiled. What of an emission has no description (sends, receives, scopes, an expression that is
not known here) becomes a small function of the same lines, which is called before or after the
original: nothing of kobs is on the stack while that runs.
"""

import _ast
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

from kobs import inside
from kobs._core import _native
from kobs.inside import FILENAME
from kobs.observe.emissions import Emission, errno_of
from kobs.observe.extractors import length, reach
from kobs.observe.parameters import PREFIX, Parameters
from kobs.observe.targets import INHERITED, Target
from kobs.observe.writing import Piece, Writer, indent

if TYPE_CHECKING:
    from kobs.observe.sites import Site

Node = tuple[str, int, Any, tuple[Any, ...]]
"""(kind, index, object, children); see `kobs_node_kind` in `_core/src/observed.h`."""

_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST; `ast` itself is slow to import


def build(
    site: "Site", original: Any, target: Target, emissions: tuple[Emission, ...], owner: type | None
) -> Any:
    """The observed callable of a site. Raises `ObserveError` where an emission does not fit."""
    writer = Writer(target, emissions)
    describe = _Describer(writer, original, site.failed)
    before, returned, raised = (
        tuple(map(describe.piece, pieces))
        for pieces in (writer.before(), writer.returned(), writer.raised())
    )
    return _native.function(
        original=original,
        site=site,
        style=target.style,
        parameters=describe.parameters(),
        instance=None if target.this is None else describe.expression(target.this),
        before=before,
        returned=returned,
        raised=raised,
        emissions=len(emissions),
        scope=writer.begin,
        measured=writer.measured,
        shared=writer.shared,
        keeps_state=any(piece[3] >= 0 for piece in before),
        through=owner if target.way == INHERITED else None,
        name=target.name,
        end_noted=end_noted,
        leave_noted=leave_noted,
    )


def end_noted(note: inside.Note, site: "Site", route: tuple[Any, ...]) -> tuple[Any, ...]:
    """The route of a call that ended and inside of which a watch told something."""
    collector, *channels = route
    return (collector, *inside.aware(note, site, tuple(channels)))


def leave_noted(note: inside.Note, site: "Site", route: tuple[Any, ...]) -> None:
    """Have told what is still held of that call."""
    inside.leave(note, site.failed, route[0])


inside.running_natively = _native.running
site_of: Callable[[object], Any] = _native.site_of
wire: Callable[[Any, Any, Any], None] = _native.wire
Observed: type = _native.function


class _Unknown(Exception):
    """An expression that has no description."""


class _Describer:
    """Describes the emissions of one site."""

    def __init__(self, writer: Writer, original: Any, failed: Callable[..., None]) -> None:
        self._writer = writer
        self._failed = failed
        self._own: Parameters = writer.target.parameters
        self._names = (*self._own.positional, *self._own.keyword_only)
        self._original = original
        self._fixed: dict[str, Node] = {
            "_kobs_r": ("result", 0, None, ()),
            "_kobs_x": ("error", 0, None, ()),
            "_kobs_d": ("elapsed", 0, None, ()),
        }

    def parameters(self) -> tuple[Any, ...]:
        """(names, positional, positional only, *args, **kwargs, function with the defaults)"""
        own = self._own
        function = self._original
        while _native.site_of(function) is not None:
            function = function.__wrapped__
        if (
            type(function) is not FunctionType
            or own.names != Parameters.of_function(function).names
        ):
            function = None
        return (
            self._names, len(own.positional), own.positional_only, own.varargs, own.varkw, function,
        )  # fmt: skip

    def piece(self, piece: Piece) -> tuple[Any, ...]:
        """(emission, function, whether it takes the call's arguments, slot, condition, positional,
        keywords, targets, values)"""
        if piece.given is not None:
            try:
                return self._values(piece, piece.given)
            except _Unknown:
                pass
        names = compile("\n".join(piece.lines), FILENAME, "exec").co_names
        takes = not set(names).isdisjoint(self._own.names)
        function = self._function(piece, self._own if takes else Parameters())
        return piece.emission, function, takes, piece.slot, None, 0, (), (), ()

    def _values(self, piece: Piece, given: str) -> tuple[Any, ...]:
        call = _parsed(f"f({given})")
        schema = self._writer.emissions[piece.emission].type.__kobs_schema__
        keywords = tuple(keyword.arg for keyword in call.keywords)
        targets = (
            *range(len(call.args)),
            *(schema.field_names.index(k) if k in schema.field_names else k for k in keywords),
        )
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        condition = None if piece.condition is None else self.expression(piece.condition)
        described = tuple(map(self.node, values))
        return (
            piece.emission, None, False, -1, condition, len(call.args), keywords, targets,
            described,
        )  # fmt: skip

    def _function(self, piece: Piece, own: Parameters) -> FunctionType:
        kept = piece.kept or "_kobs_k"
        extras = f"_kobs_c, _kobs_{piece.emission}, {kept}, _kobs_r, _kobs_x, _kobs_d, "
        if not own.positional_only:
            extras += "/, "
        names = {
            **self._writer.names,
            "_kobs_failed": self._failed,
            "_kobs_Exception": Exception,
        }
        body = [*piece.lines, *([f"return {kept}"] if piece.kept else [])]
        head = f"def {PREFIX}emission({extras}{own.declaration()}):"
        source = [
            f"def factory({', '.join(names)}):",
            *indent([head, *indent(body)]),
            f"    return {PREFIX}emission",
        ]
        space: dict[str, Any] = {}
        exec(compile("\n".join(source), FILENAME, "exec"), space)
        made: FunctionType = space["factory"](**names)
        function = self.parameters()[-1]
        if own is self._own and function is not None:
            made.__defaults__ = function.__defaults__
            made.__kwdefaults__ = function.__kwdefaults__
        return made

    # -- expressions ------------------------------------------------------------------------

    def expression(self, source: str) -> Node:
        """The description of an expression. Raises `_Unknown` where there is none."""
        return self.node(_parsed(source))

    def node(self, tree: Any) -> Node:
        """The description of a part of one."""
        describe: Callable[[Any], Node] | None = getattr(self, f"_{type(tree).__name__}", None)
        if describe is None:
            raise _Unknown
        return describe(tree)

    def _Constant(self, tree: Any) -> Node:
        return "constant", 0, tree.value, ()

    def _Name(self, tree: Any) -> Node:
        name = tree.id
        if name in self._fixed:
            return self._fixed[name]
        if name in self._names:
            return "parameter", self._names.index(name), None, ()
        if name == self._own.varargs:
            return "varargs", 0, None, ()
        if name == self._own.varkw:
            return "varkw", 0, None, ()
        if name in self._writer.names:
            return "constant", 0, self._writer.names[name], ()
        raise _Unknown

    def _Attribute(self, tree: Any) -> Node:
        return "attribute", 0, tree.attr, (self.node(tree.value),)

    def _Subscript(self, tree: Any) -> Node:
        inner, key = self.node(tree.value), tree.slice
        if isinstance(key, _ast.Slice):
            first = _number(key.lower)
            if inner[0] != "varargs" or key.upper is not None or key.step is not None:
                raise _Unknown
            return "varargs", first, None, ()
        if not isinstance(key, _ast.Constant):
            raise _Unknown
        if inner[0] == "varargs" and isinstance(key.value, int):
            return "extra", key.value, None, ()
        if inner[0] == "varkw":
            return "keyword", 0, key.value, ()
        return "item", 0, key.value, (inner,)

    def _Call(self, tree: Any) -> Node:
        if tree.keywords or len(tree.args) > 16:
            raise _Unknown
        if isinstance(tree.func, _ast.Attribute):
            return self._keyword_or(tree)
        kind, _, function, _ = self.node(tree.func)
        if kind != "constant":
            raise _Unknown
        if function is reach:
            value, steps, default = tree.args
            path = tuple(int(s.value) if s.value.isdigit() else s.value for s in steps.elts)
            return "reach", 0, path, (self.node(value), self.node(default))
        children = tuple(map(self.node, tree.args))
        if function is length:
            return "length", 0, None, children
        if function is errno_of:
            return "errno", 0, None, children
        return "call", 0, function, children

    def _keyword_or(self, tree: Any) -> Node:
        """`kwargs.get("name", default)`"""
        if tree.func.attr != "get" or self.node(tree.func.value)[0] != "varkw":
            raise _Unknown
        name, default = tree.args
        return "keyword", 0, name.value, (self.node(default),)

    def _IfExp(self, tree: Any) -> Node:
        """`args[2] if len(args) > 2 else …`"""
        kind, index, _, _ = body = self.node(tree.body)
        if kind != "extra" or body[3] or not isinstance(tree.test, _ast.Compare):
            raise _Unknown
        return "extra", index, None, (self.node(tree.orelse),)

    def _BinOp(self, tree: Any) -> Node:
        """`elapsed / 1000`"""
        inner = self.node(tree.left)
        if inner != self._fixed["_kobs_d"] or not isinstance(tree.op, _ast.Div):
            raise _Unknown
        return "elapsed", _number(tree.right), None, ()

    def _Compare(self, tree: Any) -> Node:
        """`elapsed >= limit * 1000000`"""
        right = tree.comparators[0]
        if (
            self.node(tree.left) != self._fixed["_kobs_d"]
            or not isinstance(right, _ast.BinOp)
            or _number(right.right) != 1_000_000
        ):
            raise _Unknown
        return "slower", 0, None, (self.node(right.left),)

    def _BoolOp(self, tree: Any) -> Node:
        if not isinstance(tree.op, _ast.And):
            raise _Unknown
        return "all", 0, None, tuple(map(self.node, tree.values))

    def _Dict(self, tree: Any) -> Node:
        keys = tuple(key.value for key in tree.keys)
        return "dict", 0, keys, tuple(map(self.node, tree.values))


def _parsed(source: str) -> Any:
    tree: Any = compile(source, FILENAME, "eval", _ONLY_AST)
    return tree.body


def _number(tree: Any) -> int:
    if not isinstance(tree, _ast.Constant) or not isinstance(tree.value, int):
        raise _Unknown
    return tree.value
