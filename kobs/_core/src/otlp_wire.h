/* Protobuf as OTLP needs it: where there is room, one past what was written. */

#ifndef KOBS_OTLP_WIRE_H
#define KOBS_OTLP_WIRE_H

#include <stdint.h>
#include <string.h>

enum { VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5 };
#define TAG(field, kind) ((uint64_t)(field) << 3 | (kind))

static inline char *
put_varint(char *at, uint64_t number)
{
    while (number >= 0x80) {
        *at++ = (char)(number | 0x80);
        number >>= 7;
    }
    *at++ = (char)number;
    return at;
}

static inline size_t
varint_size(uint64_t number)
{
    size_t size = 1;

    while (number >= 0x80) {
        number >>= 7;
        size++;
    }
    return size;
}

static inline char *
put_bytes(char *at, unsigned field, const char *data, size_t length)
{
    at = put_varint(at, TAG(field, LENGTH));
    at = put_varint(at, length);
    memcpy(at, data, length);
    return at + length;
}

static inline char *
put_big_endian(char *at, uint64_t number)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    number = __builtin_bswap64(number);
#endif
    memcpy(at, &number, 8);
    return at + 8;
}

static inline char *
put_fixed64(char *at, unsigned field, uint64_t number)
{
    at = put_varint(at, TAG(field, FIXED64));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    number = __builtin_bswap64(number);
#endif
    memcpy(at, &number, 8);
    return at + 8;
}

/* The head of a `KeyValue` whose value takes so many bytes, up to that value's. */
static inline char *
put_key(char *at, const char *key, size_t length, size_t value)
{
    size_t body = 1 + varint_size(length) + length + 1 + varint_size(value) + value;

    at = put_varint(at, TAG(9, LENGTH));
    at = put_varint(at, body);
    at = put_bytes(at, 1, key, length);
    at = put_varint(at, TAG(2, LENGTH));
    return put_varint(at, value);
}

static inline char *
put_text_attribute(char *at, const char *key, size_t key_length, const char *text, size_t length)
{
    at = put_key(at, key, key_length, 1 + varint_size(length) + length);
    return put_bytes(at, 1, text, length);
}

static inline char *
put_integer_attribute(char *at, const char *key, size_t key_length, int64_t number)
{
    at = put_key(at, key, key_length, 1 + varint_size((uint64_t)number));
    at = put_varint(at, TAG(3, VARINT));
    return put_varint(at, (uint64_t)number);
}

#endif
