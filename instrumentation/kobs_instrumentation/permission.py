"""Permissions: what was refused for want of one, and what was given.

```python
from kobs_instrumentation.permission import PermissionInstrumentor

PermissionInstrumentor().instrument()    # events go to the collector of kobs.init_collector
...
PermissionInstrumentor().uninstrument()
```
"""

from kobs_instrumentation.instrumentor import WatchInstrumentor


class PermissionInstrumentor(WatchInstrumentor):
    """Watches permissions: PermissionDenied, PermissionGranted."""

    watch = "permission"
