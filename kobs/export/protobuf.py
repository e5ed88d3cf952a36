"""Just enough protobuf wire format to write messages: no reading, no schema, no dependency.

Each function gives the bytes of one field, tag included; a message is their concatenation.
"""

from struct import Struct

_FIXED64 = Struct("<Q").pack
_FIXED32 = Struct("<I").pack
_DOUBLE = Struct("<d").pack

_SMALL = [bytes((number,)) for number in range(128)]
_U64 = (1 << 64) - 1


def varint(number: int) -> bytes:
    """A base-128 varint; negative numbers as 64-bit two's complement."""
    if 0 <= number < 0x80:
        return _SMALL[number]
    number &= _U64
    if number < 0x4000:
        return bytes((number & 127 | 128, number >> 7))
    if number < 0x1000_0000:
        low = bytes((number & 127 | 128, number >> 7 & 127 | 128))
        return low + varint(number >> 14)
    # Four digits at a time: ids and times have seven to ten.
    low = bytes(
        (
            number & 127 | 128,
            number >> 7 & 127 | 128,
            number >> 14 & 127 | 128,
            number >> 21 & 127 | 128,
        )
    )
    return low + varint(number >> 28)


_INTEGER = [varint(field << 3) for field in range(256)]
_FIXED = [varint(field << 3 | 1) for field in range(256)]
_LENGTH = [varint(field << 3 | 2) for field in range(256)]
_SHORT = [varint(field << 3 | 5) for field in range(256)]


def integer(field: int, number: int) -> bytes:
    """A field of type int32, int64, uint32, uint64, bool or enum."""
    return _INTEGER[field] + (_SMALL[number] if 0 <= number < 128 else varint(number))


def fixed64(field: int, number: int) -> bytes:
    """A field of type fixed64."""
    return _FIXED[field] + _FIXED64(number & _U64)


def fixed32(field: int, number: int) -> bytes:
    """A field of type fixed32."""
    return _SHORT[field] + _FIXED32(number)


def double(field: int, number: float) -> bytes:
    """A field of type double."""
    return _FIXED[field] + _DOUBLE(number)


def message(field: int, data: bytes) -> bytes:
    """A field of type bytes, or of a message type whose bytes are `data`."""
    length = len(data)
    return _LENGTH[field] + (_SMALL[length] if length < 128 else varint(length)) + data


def string(field: int, text: str) -> bytes:
    """A field of type string. What UTF-8 cannot say (lone surrogates) is written as `\\udc80`."""
    return message(field, text.encode("utf-8", "backslashreplace"))
