"""System calls: what the wrappers in `os`, `socket`, `select`, `fcntl` and `time.sleep` do.

```python
from kobs_instrumentation.syscall import SyscallInstrumentor

SyscallInstrumentor().instrument()    # events go to the collector of kobs.init_collector
...
SyscallInstrumentor().uninstrument()
```
"""

from kobs_instrumentation.instrumentor import WatchInstrumentor


class SyscallInstrumentor(WatchInstrumentor):
    """Watches system calls: SyscallEnter, SyscallExit, SyscallSlow."""

    watch = "syscall"
