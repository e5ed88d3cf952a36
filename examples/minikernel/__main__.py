"""Run the example kernel: `python -m minikernel` in `examples`, or `python examples/minikernel`."""

import os
import sys

if not __package__:
    # Started by its path: what is importable then is the inside of this package, not the package.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from minikernel.story import tell

tell(lambda line: print(line, flush=True))
