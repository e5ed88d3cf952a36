"""Shared memory: the segments of `multiprocessing.shared_memory`.

```python
from kobs_instrumentation.shm import ShmInstrumentor

ShmInstrumentor().instrument()    # events go to the collector of kobs.init_collector
...
ShmInstrumentor().uninstrument()
```
"""

from kobs_instrumentation.instrumentor import WatchInstrumentor


class ShmInstrumentor(WatchInstrumentor):
    """Watches shared memory: ShmCreated, ShmDestroyed, ShmRead, ShmWritten, MemoryAllocated,
    MemoryFreed, ResourceLeaked."""

    watch = "shm"
