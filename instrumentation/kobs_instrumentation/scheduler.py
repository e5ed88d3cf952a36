"""What runs when: threads, executors, asyncio's tasks and its loop.

```python
from kobs_instrumentation.scheduler import SchedulerInstrumentor

SchedulerInstrumentor().instrument()    # events go to the collector of kobs.init_collector
...
SchedulerInstrumentor().uninstrument()
```
"""

from kobs_instrumentation.instrumentor import WatchInstrumentor


class SchedulerInstrumentor(WatchInstrumentor):
    """Watches threads and tasks: SchedulerLatency, ContextSwitch, LoopStalled."""

    watch = "scheduler"
