"""Files: what is opened and changed through `open` and `os`, and what of it is slow.

```python
from kobs_instrumentation.vfs import VfsInstrumentor

VfsInstrumentor().instrument()    # events go to the collector of kobs.init_collector
...
VfsInstrumentor().uninstrument()
```
"""

from kobs_instrumentation.instrumentor import WatchInstrumentor


class VfsInstrumentor(WatchInstrumentor):
    """Watches files: FileOpened, FileChanged, FileSlow."""

    watch = "vfs"
