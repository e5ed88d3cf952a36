/* Text that grows, and what is put into it: numbers, strings, JSON. */

#ifndef KOBS_TEXT_H
#define KOBS_TEXT_H

#include "core.h"

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

/* NULL with an exception set. */
char *kobs_put_float(char *at, double);

/* -- strings ----------------------------------------------------------------------------------- */

/* What Python made: bytes. False with an exception set, for NULL too. */
bool kobs_put_bytes(kobs_text *, PyObject *made);

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
