"""Just enough protobuf wire format to write messages: no reading, no schema, no dependency.

Each function gives the bytes of one field, tag included; a message is their concatenation.
"""

from struct import Struct

_FIXED64 = Struct("<Q").pack
_DOUBLE = Struct("<d").pack

_SMALL = [bytes((number,)) for number in range(128)]
_U64 = (1 << 64) - 1


def varint(number: int) -> bytes:
    """A base-128 varint; negative numbers as 64-bit two's complement."""
    if 0 <= number < 128:
        return _SMALL[number]
    number &= _U64
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)


def integer(field: int, number: int) -> bytes:
    """A field of type int32, int64, uint32, uint64, bool or enum."""
    return varint(field << 3) + varint(number)


def fixed64(field: int, number: int) -> bytes:
    """A field of type fixed64."""
    return varint(field << 3 | 1) + _FIXED64(number & _U64)


def double(field: int, number: float) -> bytes:
    """A field of type double."""
    return varint(field << 3 | 1) + _DOUBLE(number)


def message(field: int, data: bytes) -> bytes:
    """A field of type bytes, or of a message type whose bytes are `data`."""
    return varint(field << 3 | 2) + varint(len(data)) + data


def string(field: int, text: str) -> bytes:
    """A field of type string. What UTF-8 cannot say (lone surrogates) is written as `\\udc80`."""
    return message(field, text.encode("utf-8", "backslashreplace"))
