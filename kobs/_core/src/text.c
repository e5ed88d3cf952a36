#include "text.h"

#include <math.h>

#include "types.h"

bool
kobs_text_grow(kobs_text *text, size_t size)
{
    size_t used = (size_t)(text->at - text->start), room = (size_t)(text->end - text->start);

    room = room * 2 > used + size ? room * 2 : used + size;
    char *grown = PyMem_Realloc(text->start, room < 4096 ? 4096 : room);
    if (grown == NULL) {
        PyErr_NoMemory();
        return false;
    }
    text->start = grown;
    text->at = grown + used;
    text->end = grown + (room < 4096 ? 4096 : room);
    return true;
}

/* -- numbers --------------------------------------------------------------------------------- */

char *
kobs_put_odd_float(char *at, double value)
{
    if (!isfinite(value)) {
        const char *word = isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
        size_t length = strlen(word);
        memcpy(at, word, length);
        return at + length;
    }
    char *digits = PyOS_double_to_string(value, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (digits == NULL) {
        return NULL;
    }
    size_t length = strlen(digits);
    memcpy(at, digits, length);
    PyMem_Free(digits);
    return at + length;
}

/* -- strings --------------------------------------------------------------------------------- */

bool
kobs_refuse_bytes(PyObject *made)
{
    if (made != NULL) {
        PyErr_Format(PyExc_TypeError, "expected bytes, got %R", made);
    }
    return false;
}

bool
kobs_put_new_bytes(kobs_text *out, PyObject *made)
{
    bool done = kobs_put_bytes(out, made);

    Py_XDECREF(made);
    return done;
}

static bool
is_plain(char each)
{
    return each >= ' ' && each <= '~' && each != '"' && each != '\\';
}

/* Whether a byte of eight is below `least`, which is 128 at most. */
static inline bool
any_below(uint64_t eight, uint64_t least)
{
    const uint64_t ones = 0x0101010101010101ull;

    return ((eight - ones * least) & ~eight & ones << 7) != 0;
}

static bool
all_plain(const char *data, size_t length)
{
    const uint64_t ones = 0x0101010101010101ull;

    for (; length >= 8; data += 8, length -= 8) {
        uint64_t eight;
        memcpy(&eight, data, 8);
        if ((eight & ones << 7) != 0 || any_below(eight, ' ') || any_below(eight ^ ones * '"', 1)
            || any_below(eight ^ ones * '\\', 1) || any_below(eight ^ ones * 127, 1)) {
            return false;
        }
    }
    while (length > 0 && is_plain(*data)) {
        data++;
        length--;
    }
    return length == 0;
}

bool
kobs_put_text(kobs_text *out, const uint8_t *at, size_t size)
{
    size_t length = at[0] < size ? at[0] : size;
    const char *data = (const char *)at + 1;

    if (!kobs_text_room(out, length + 2)) {
        return false;
    }
    if (!all_plain(data, length)) {
        PyObject *text = PyUnicode_DecodeUTF8(data, (Py_ssize_t)length, "surrogateescape");
        PyObject *made = text == NULL ? NULL : kobs_json_text(text);
        Py_XDECREF(text);
        return kobs_put_new_bytes(out, made);
    }
    char *to = out->at;
    *to = '"';
    to = kobs_put_few(to + 1, data, length);
    *to = '"';
    out->at = to + 1;
    return true;
}

/* Whether a float's digits are those that `repr` gives. */
static bool
canonical_float(const char *digits, size_t length)
{
    char copy[40], *end;

    if (length >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, digits, length);
    copy[length] = 0;
    double value = PyOS_string_to_double(copy, &end, NULL);
    if (PyErr_Occurred() || *end != 0 || !isfinite(value)) {
        PyErr_Clear();
        return false;
    }
    char *again = PyOS_double_to_string(value, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    bool same = again != NULL && strcmp(again, copy) == 0;
    PyErr_Clear();
    PyMem_Free(again);
    return same;
}

/* One past a string of plain characters that begins at `at`; NULL where there is none. */
static const char *
plain_string(const char *at, const char *end)
{
    if (at >= end || *at++ != '"') {
        return NULL;
    }
    while (at < end && is_plain(*at)) {
        at++;
    }
    return at < end && *at == '"' ? at + 1 : NULL;
}

static const char *
plain_value(const char *at, const char *end)
{
    static const char *const words[] = {"true", "false", "null"};

    if (at < end && *at == '"') {
        return plain_string(at, end);
    }
    for (size_t each = 0; each < 3; each++) {
        size_t length = strlen(words[each]);
        if ((size_t)(end - at) > length && memcmp(at, words[each], length) == 0) {
            return at + length;
        }
    }
    const char *start = at;
    while (at < end && ((*at >= '0' && *at <= '9') || (*at != 0 && strchr("+-.e", *at) != NULL))) {
        at++;
    }
    size_t length = (size_t)(at - start);
    const char *digits = start + (length > 0 && *start == '-');
    size_t count = (size_t)(at - digits);
    if (count == 0) {
        return NULL;
    }
    for (const char *each = digits; each < at; each++) {
        if (*each < '0' || *each > '9') {
            return canonical_float(start, length) ? at : NULL;
        }
    }
    return *digits == '0' && length > 1 ? NULL : at;
}

/* Whether JSON is a flat object that is written again as it was read: nothing escaped, no key
 * twice, every number as Python writes it. */
bool
kobs_canonical_json(const char *at, size_t length)
{
    enum { MOST = 16 };
    const char *end = at + length, *keys[MOST];
    size_t lengths[MOST], count = 0;

    if (length < 2 || *at++ != '{') {
        return false;
    }
    if (*at == '}') {
        return length == 2;
    }
    for (;;) {
        const char *after = plain_string(at, end);
        if (after == NULL || after >= end || *after != ':' || count == MOST) {
            return false;
        }
        for (size_t other = 0; other < count; other++) {
            if (lengths[other] == (size_t)(after - at)
                && memcmp(keys[other], at, lengths[other]) == 0) {
                return false;
            }
        }
        keys[count] = at;
        lengths[count++] = (size_t)(after - at);
        at = plain_value(after + 1, end);
        if (at == NULL || at >= end) {
            return false;
        }
        if (*at == '}') {
            return at + 1 == end;
        }
        if (*at++ != ',') {
            return false;
        }
    }
}

/* -- moments --------------------------------------------------------------------------------- */

static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                            "25262728293031323334353637383940414243444546474849"
                            "50515253545556575859606162636465666768697071727374"
                            "75767778798081828384858687888990919293949596979899";

/* The date of a day since 1970 (H. Hinnant, "chrono-compatible low-level date algorithms"). */
void
kobs_write_second(char text[24], int64_t second)
{
    int64_t days = second / 86400 + 719468, rest = second % 86400;
    int64_t era = days / 146097, of_era = days % 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t shifted = (5 * of_year + 2) / 153;
    int parts[] = {
        (int)(shifted < 10 ? shifted + 3 : shifted - 9),
        (int)(of_year - (153 * shifted + 2) / 5 + 1),
        (int)(rest / 3600),
        (int)(rest / 60 % 60),
        (int)(rest % 60),
    };
    int whole = (int)(year + era * 400 + (shifted >= 10));

    memcpy(text, pairs + 2 * (whole / 100), 2);
    memcpy(text + 2, pairs + 2 * (whole % 100), 2);
    for (int part = 0; part < 5; part++) {
        text[4 + 3 * part] = "--T::"[part];
        memcpy(text + 5 + 3 * part, pairs + 2 * parts[part], 2);
    }
    text[19] = '.';
}

