"""Taking the plugin's own frames out of a failure's traceback, whatever its style.

pytest leaves out frames that say so (`__tracebackhide__`), but not with `--tb=native`.

PYTEST_DONT_REWRITE
"""

import os
from types import TracebackType

import kobs.pattern
import kobs.payload_type
import kobs_pytest
from kobs.errors import FieldError, PatternError
from kobs.pattern import Inconclusive

_OURS = (
    *(
        os.path.dirname(os.path.abspath(str(module.__file__))) + os.sep
        for module in (kobs_pytest, kobs.pattern)
    ),
    os.path.abspath(str(kobs.payload_type.__file__)),
)
_TOLD = (AssertionError, PatternError, FieldError, Inconclusive)
"""What the plugin and patterns raise to be read by who wrote the test."""


def without_ours(error: BaseException) -> None:
    """Unlink the frames of the plugin and of patterns. An error that arose in them, and is none
    that is meant for the reader, keeps them all."""
    entries = []
    entry = error.__traceback__
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    if not entries or (_is_ours(entries[-1]) and not isinstance(error, _TOLD)):
        return
    before = entries[0]
    for entry in entries[1:]:
        if _is_ours(entry):
            before.tb_next = entry.tb_next
        else:
            before = entry


def _is_ours(entry: TracebackType) -> bool:
    return entry.tb_frame.f_code.co_filename.startswith(_OURS)
