"""Processes: how they start and end, through `subprocess`, `multiprocessing`, `os` and `pty`.

```python
from kobs_instrumentation.process import ProcessInstrumentor

ProcessInstrumentor().instrument()    # events go to the collector of kobs.init_collector
...
ProcessInstrumentor().uninstrument()
```
"""

from kobs_instrumentation.instrumentor import WatchInstrumentor


class ProcessInstrumentor(WatchInstrumentor):
    """Watches processes: ProcessCreated, ProcessTerminated, ProcessStateChanged."""

    watch = "process"
