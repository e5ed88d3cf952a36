"""What is said of shelves."""

from typing import Annotated

from kobs import Category, PayloadType, event_type
from kobs.schema import F64, Name, Text


@event_type(category=Category.RESOURCE)
class ShelfUsed(PayloadType):
    """Something was read from a shelf, written to it, or deleted."""

    operation: Name
    """read, write or delete"""
    key: Annotated[str, Text(64)]
    """Under which key"""
    duration_us: F64
    """How long it took"""
