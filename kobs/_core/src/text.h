/* Text that grows, and what is put into it: numbers, strings, JSON. */

#ifndef KOBS_TEXT_H
#define KOBS_TEXT_H

#include "core.h"

#include <math.h>
#include <string.h>

typedef struct {
    char *start, *at, *end;
} kobs_text;

/* Make room for `size` bytes more; false where there is none, with an exception set. */
bool kobs_text_grow(kobs_text *, size_t size);

static inline bool
kobs_text_room(kobs_text *text, size_t size)
{
    return (size_t)(text->end - text->at) >= size || kobs_text_grow(text, size);
}

/* -- numbers, where there is room: one past what was written ----------------------------------- */

enum { KOBS_NUMBER = 40 }; /* bytes that a number takes at most, and those behind it that change */

/* The digits of a number below 10^8, a byte each, the first one lowest: the quotients and the rests
 * of 10^4, 100 and 10, all at once (P. Khuong, "How to print integers really fast", 2017). */
static inline uint64_t
kobs_eight_digits(uint32_t number)
{
    uint64_t high = number / 10000, four = high | (uint64_t)(number - 10000 * high) << 32;
    uint64_t hundreds = four * 10486 >> 20 & 0x0000007F0000007Full;
    uint64_t two = (four << 16) - hundreds * ((100 << 16) - 1);
    uint64_t tens = two * 103 >> 10 & 0x000F000F000F000Full;

    return (two << 8) - tens * ((10 << 8) - 1);
}

static inline void
kobs_put_digits(char *at, uint64_t digits)
{
    digits |= 0x3030303030303030ull;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    digits = __builtin_bswap64(digits);
#endif
    memcpy(at, &digits, 8);
}

static inline char *
kobs_put_eight(char *at, uint32_t number)
{
    kobs_put_digits(at, kobs_eight_digits(number));
    return at + 8;
}

/* A number below 10^8 without leading zeros. */
static inline char *
kobs_put_leading(char *at, uint32_t number)
{
    uint64_t digits = kobs_eight_digits(number);
    unsigned zeros = (unsigned)__builtin_ctzll(digits | 1ull << 56) / 8;

    kobs_put_digits(at, digits >> 8 * zeros);
    return at + 8 - zeros;
}

static inline char *
kobs_put_unsigned(char *at, uint64_t number)
{
    const uint64_t block = 100000000;

    if (number < 10) {
        *at = (char)('0' + number);
        return at + 1;
    }
    if (number < block) {
        return kobs_put_leading(at, (uint32_t)number);
    }
    uint64_t high = number / block;
    uint32_t low = (uint32_t)(number - high * block);
    if (high < block) {
        at = kobs_put_leading(at, (uint32_t)high);
    }
    else {
        uint64_t highest = high / block;
        at = kobs_put_leading(at, (uint32_t)highest);
        at = kobs_put_eight(at, (uint32_t)(high - highest * block));
    }
    return kobs_put_eight(at, low);
}

static inline char *
kobs_put_signed(char *at, int64_t number)
{
    if (number < 0) {
        *at++ = '-';
        return kobs_put_unsigned(at, 0 - (uint64_t)number);
    }
    return kobs_put_unsigned(at, (uint64_t)number);
}

/* A decimal of three places, as durations in microseconds are. One of 15 digits or less that is
 * this very float is the shortest there is, which is what `repr` gives. */
static inline char *
kobs_put_thousandths(char *at, double value)
{
    double scaled = value * 1000.0;

    if (!(scaled > -1e15 && scaled < 1e15)) {
        return NULL;
    }
    int64_t number = (int64_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    if ((double)number / 1000.0 != value || (number == 0 && signbit(value))) {
        return NULL;
    }
    if (number < 0) {
        *at++ = '-';
        number = -number;
    }
    at = kobs_put_unsigned(at, (uint64_t)number / 1000);
    uint64_t rest = kobs_eight_digits((uint32_t)((uint64_t)number % 1000) * 100000);
    *at++ = '.';
    kobs_put_digits(at, rest);
    return at + 8 - __builtin_clzll(rest | 1) / 8; /* without the zeros at the end */
}

/* Any other float; NULL with an exception set. */
char *kobs_put_odd_float(char *at, double);

static inline char *
kobs_put_float(char *at, double value)
{
    char *end = kobs_put_thousandths(at, value);

    return end != NULL ? end : kobs_put_odd_float(at, value);
}

/* -- strings ----------------------------------------------------------------------------------- */

/* A few bytes, without a call. */
static inline char *
kobs_put_few(char *at, const char *from, size_t length)
{
    if (length >= 16 && length <= 32) {
        memcpy(at, from, 16);
        memcpy(at + length - 16, from + length - 16, 16);
    }
    else if (length >= 8 && length <= 16) {
        memcpy(at, from, 8);
        memcpy(at + length - 8, from + length - 8, 8);
    }
    else if (length >= 4 && length < 8) {
        memcpy(at, from, 4);
        memcpy(at + length - 4, from + length - 4, 4);
    }
    else {
        memcpy(at, from, length);
    }
    return at + length;
}

bool kobs_refuse_bytes(PyObject *made);

/* What Python made: bytes. False with an exception set, for NULL too. */
static inline bool
kobs_put_bytes(kobs_text *out, PyObject *made)
{
    if (made == NULL || !PyBytes_Check(made)) {
        return kobs_refuse_bytes(made);
    }
    size_t length = (size_t)PyBytes_GET_SIZE(made);
    if (!kobs_text_room(out, length)) {
        return false;
    }
    out->at = kobs_put_few(out->at, PyBytes_AS_STRING(made), length);
    return true;
}

/* The same, and it is let go of. */
bool kobs_put_new_bytes(kobs_text *, PyObject *made);

/* UTF-8 of so many bytes after a byte that says how many are in use, as JSON. */
bool kobs_put_text(kobs_text *, const uint8_t *at, size_t size);

/* Whether JSON is a flat object that Python's `json` writes again as it was read: nothing escaped,
 * no key twice, every number as Python writes it. */
bool kobs_canonical_json(const char *at, size_t length);

/* `2026-11-23T15:44:20.` of a second since 1970, up to the year 9999. */
void kobs_write_second(char text[24], int64_t second);

#endif
