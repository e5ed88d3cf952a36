"""What no watch tells: the interpreter's own doings and files, and kobs's own."""

import os
import re
import sys
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kobs.collector import Collector

_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_PACKAGES = (os.path.join(_LIBRARY, "site-packages"), os.path.join(_LIBRARY, "dist-packages"))
_KOBS = tuple(
    os.path.dirname(os.path.abspath(module.__file__ or "")) + os.sep
    for module in (sys.modules["kobs"], sys.modules["kobs_instrumentation"])
)

_BYTE_CODE = re.compile(r"\.pyc(\.\d+)?$")
"""Under the second name it is written."""

_LEFT_OUT = (_LIBRARY, *_KOBS)


def is_own_path(path: str, collector: "Collector") -> bool:
    """A file of the interpreter's library, byte code, kobs, or what `collector` records into."""
    if path.startswith(_LEFT_OUT) and (path.startswith(_KOBS) or not path.startswith(_PACKAGES)):
        return True
    if ".pyc" in path and _BYTE_CODE.search(path):
        return True
    session = collector.session
    return path == collector.path if session is None else path.startswith(session.path)


def is_interpreter(frame: FrameType | None) -> bool:
    """Who calls is the interpreter itself, for instance to start or to import: its frozen
    modules."""
    return frame is not None and frame.f_code.co_filename.startswith("<frozen ")
