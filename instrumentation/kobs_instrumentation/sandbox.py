"""What a policy forbids a program: told of, or refused.

```python
from kobs_instrumentation.policy import SandboxPolicy
from kobs_instrumentation.sandbox import SandboxInstrumentor

policy = SandboxPolicy(deny=["open.write"], allow=["open.write:/tmp/*"], mode="deny")
SandboxInstrumentor().instrument(policy=policy)
...
SandboxInstrumentor().uninstrument()
```
"""

from typing import Any

from kobs_instrumentation.instrumentor import WatchInstrumentor


class SandboxInstrumentor(WatchInstrumentor):
    """Watches a policy: SecurityViolation, CapabilityDenied. Without `policy` it does nothing."""

    watch = "sandbox"

    def install_options(self, given: dict[str, Any]) -> dict[str, Any]:
        """The policy."""
        return {"policy": given.get("policy")}
