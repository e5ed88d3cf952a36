"""gRPC: each call a span on the client's and the server's side, in one chain.

```python
from kobs_instrumentation.grpc import GrpcInstrumentor

GrpcInstrumentor().instrument()    # spans go to the collector of kobs.init_collector
...
GrpcInstrumentor().uninstrument()
```

For channels and servers that one chooses there are the interceptors of
`kobs_instrumentation.grpc_interceptors`.
"""

from kobs_instrumentation.instrumentor import WatchInstrumentor


class GrpcInstrumentor(WatchInstrumentor):
    """Watches gRPC, once the program imports it: SpanBegan, SpanEnded."""

    watch = "grpc"
