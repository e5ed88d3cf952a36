"""Vocabulary of `@observe("shm")`: classes that manage shared memory segments.

A read is joined to the last write of the segment of that name, in whichever process of the
session that was, and continues the writer's chain. The segment is argument name, segment,
segment_name, key or the first.

- `create*`
  - ShmCreated when it returned
    - `name`: the segment
    - `size`: argument size, nbytes, length or the second
- `write*` `store*`
  - ShmWritten when it returned
    - `name`: the segment
    - `size`: the number returned, else of argument data, body, payload, …
- `read*` `load*`
  - ShmRead when it returned data, or how much
    - `name`: the segment
    - `size`: of what was returned
- `destroy*` `unlink*` `remove*` `delete*`
  - ShmDestroyed when it returned
    - `name`: the segment
- `leak*` `find_leak*`
  - ResourceLeaked when it returned how many, or a collection, and not none
    - `resource`: "shared memory"
    - `count`: what was returned
"""

from typing import Any

from kobs.events import ResourceLeaked, ShmCreated, ShmDestroyed, ShmRead, ShmWritten
from kobs.observe import Rule, Vocabulary, returned
from kobs_instrumentation.vocabulary.common import (
    CONTENT,
    combine,
    count_of,
    emission,
    given,
    is_number,
    is_positive,
    known,
    size_of,
    text,
    whole,
)
from kobs_instrumentation.watch._sends import segment_key


def _written(result: Any, data: Any) -> int:
    return size_of(result if is_number(result) else data)


_GIVEN = given("name", "segment", "segment_name", "key", 0)
_NAME = _GIVEN.map(text)
_KEY = _NAME.map(segment_key)
_RESULT = returned(default=None)
_COUNT = _RESULT.map(count_of)

VOCABULARY = Vocabulary(
    "shm",
    classes=("*ShmManager", "*SharedMemoryManager"),
    rules=(
        Rule(
            ("create*",),
            (
                emission(
                    ShmCreated,
                    where=known(_GIVEN),
                    fields={
                        "name": _NAME,
                        "size": given("size", "nbytes", "length", 1, default=0).map(whole),
                    },
                ),
            ),
        ),
        Rule(
            ("write*", "store*"),
            (
                emission(
                    ShmWritten,
                    where=known(_GIVEN),
                    sends=_KEY,
                    shared=True,
                    fields={
                        "name": _NAME,
                        "size": combine(_written, _RESULT, given(*CONTENT, "buffer")),
                    },
                ),
            ),
        ),
        Rule(
            ("read*", "load*"),
            (
                emission(
                    ShmRead,
                    where=known(_RESULT),
                    receives=_KEY,
                    shared=True,
                    fields={"name": _NAME, "size": _RESULT.map(size_of)},
                ),
            ),
        ),
        Rule(
            ("destroy*", "unlink*", "remove*", "delete*"),
            (emission(ShmDestroyed, where=known(_GIVEN), fields={"name": _NAME}),),
        ),
        Rule(
            ("leak*", "find_leak*"),
            (
                emission(
                    ResourceLeaked,
                    where=_COUNT.map(is_positive),
                    fields={"resource": "shared memory", "count": _COUNT},
                ),
            ),
        ),
    ),
)
