"""Memory: garbage collections, cgroup and PSI limits, what the process uses.

```python
from kobs_instrumentation.memory import MemoryInstrumentor

MemoryInstrumentor().instrument()    # events go to the collector of kobs.init_collector
...
MemoryInstrumentor().uninstrument()
```
"""

from kobs_instrumentation.instrumentor import WatchInstrumentor


class MemoryInstrumentor(WatchInstrumentor):
    """Watches memory: GcPaused, MemoryPressure, MemoryAllocated, MemoryFreed, MetricUpdate."""

    watch = "memory"
