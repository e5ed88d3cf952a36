"""What a core has to say to a person while it works: a `RuntimeWarning`, unless someone listens.

In a program that `kobs run` watches nothing may appear on stderr; there the session gets it.
"""

from collections.abc import Callable

listener: Callable[[str], None] | None = None
"""Gets each text in place of a warning."""


def tell(text: str, *, stacklevel: int) -> None:
    """Say `text`; `stacklevel` as in `warnings.warn`, counted from the caller."""
    if listener is not None:
        listener(text)
        return
    import warnings

    warnings.warn(text, RuntimeWarning, stacklevel=stacklevel + 1)
