"""Pipes: `os.pipe`, what is read and written through them, those of `subprocess` too.

```python
from kobs_instrumentation.pipe import PipeInstrumentor

PipeInstrumentor().instrument()    # events go to the collector of kobs.init_collector
...
PipeInstrumentor().uninstrument()
```
"""

from kobs_instrumentation.instrumentor import WatchInstrumentor


class PipeInstrumentor(WatchInstrumentor):
    """Watches pipes: PipeRead, PipeWritten, MetricUpdate (`pipe.throughput`)."""

    watch = "pipe"
