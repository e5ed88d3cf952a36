"""Observing code: `@observe` over a class, `@emits` on a method, `observe(obj)` for what is not
yours.

    @observe("process")
    class ProcessManager:
        @emits(ProcessCreated, name=arg("name"), priority=arg("priority"), pid=returned())
        def launch(self, name, priority=5): ...

`kobs.observe` is this package and the decorator in one: `import kobs` gives the function, and
Python sets the package of the same name over it when somebody imports that; so the package can
be called.
"""

import sys
from types import ModuleType
from typing import Any

from kobs.observe.emissions import Call, Emission, emits
from kobs.observe.extractors import Extractor, arg, len_of, raised, returned, this
from kobs.observe.sites import with_collector
from kobs.observe.vocabulary import (
    Rule,
    Vocabulary,
    register_vocabulary,
    subsystems,
    vocabulary,
)
from kobs.observe.wrapping import observe, unobserve

__all__ = [
    "Call",
    "Emission",
    "Extractor",
    "Rule",
    "Vocabulary",
    "arg",
    "emits",
    "len_of",
    "observe",
    "raised",
    "register_vocabulary",
    "returned",
    "subsystems",
    "this",
    "unobserve",
    "vocabulary",
    "with_collector",
]


class _CallablePackage(ModuleType):
    """The package, which is the decorator too."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return observe(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
