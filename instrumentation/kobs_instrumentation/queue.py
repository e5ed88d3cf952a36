"""Queues: those of `queue` and `asyncio`, and the messages of `multiprocessing`.

```python
from kobs_instrumentation.queue import QueueInstrumentor

QueueInstrumentor().instrument()    # events go to the collector of kobs.init_collector
...
QueueInstrumentor().uninstrument()
```
"""

from kobs_instrumentation.instrumentor import WatchInstrumentor


class QueueInstrumentor(WatchInstrumentor):
    """Watches queues: MessageSent, MessageReceived, QueueDepth, IpcTimeout."""

    watch = "queue"
