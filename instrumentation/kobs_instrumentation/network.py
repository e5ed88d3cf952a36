"""Connections: who they were made with, what went through them, what went wrong.

```python
from kobs_instrumentation.network import NetworkInstrumentor

NetworkInstrumentor().instrument()    # events go to the collector of kobs.init_collector
...
NetworkInstrumentor().uninstrument()
```
"""

from kobs_instrumentation.instrumentor import WatchInstrumentor


class NetworkInstrumentor(WatchInstrumentor):
    """Watches connections: ConnectionEstablished, ConnectionClosed, NetworkError."""

    watch = "network"
