"""One module a subsystem: the parts of the standard library that it watches.

For watches of other packages: `Watch`, with what its `patch` gets (`Patcher`) and what a hook's
`before` may return (`Call`).
"""

from kobs_instrumentation.watch._patch import Call, Patcher
from kobs_instrumentation.watch._watch import GetCollector, Undo, Watch

__all__ = ["Call", "GetCollector", "Patcher", "Undo", "Watch"]
