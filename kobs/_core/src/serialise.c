/* Slots as lines of JSON. The Python twin is kobs/export/jsonl.py, which says what is in them. */

#include "serialise.h"

#include <math.h>

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

static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                            "25262728293031323334353637383940414243444546474849"
                            "50515253545556575859606162636465666768697071727374"
                            "75767778798081828384858687888990919293949596979899";

static inline unsigned
digits_of(uint64_t number)
{
    static const uint64_t powers[] = {
        0, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000,
        100000000000, 1000000000000, 10000000000000, 100000000000000, 1000000000000000,
        10000000000000000, 100000000000000000, 1000000000000000000, 10000000000000000000u,
    };
    unsigned about = (64u - (unsigned)__builtin_clzll(number | 1)) * 1233 >> 12;

    return about + (number >= powers[about]);
}

static inline char *
put_unsigned(char *at, uint64_t number)
{
    if (number < 10) {
        *at = (char)('0' + number);
        return at + 1;
    }
    char *end = at + digits_of(number), *to = end;
    while (number >= 100) {
        to -= 2;
        memcpy(to, pairs + 2 * (number % 100), 2);
        number /= 100;
    }
    if (number >= 10) {
        memcpy(to - 2, pairs + 2 * number, 2);
    }
    else {
        to[-1] = (char)('0' + number);
    }
    return end;
}

/* A few bytes, without a call. */
static inline char *
put_few(char *at, const char *from, size_t length)
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

static inline char *
put_signed(char *at, int64_t number)
{
    if (number < 0) {
        *at++ = '-';
        return put_unsigned(at, 0 - (uint64_t)number);
    }
    return put_unsigned(at, (uint64_t)number);
}

/* A decimal of three places, as durations in microseconds are. One of 15 digits or less that is
 * this very float is the shortest there is, which is what `repr` gives. */
static char *
put_thousandths(char *at, double value)
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
    at = put_unsigned(at, (uint64_t)number / 1000);
    unsigned rest = (unsigned)((uint64_t)number % 1000);
    *at++ = '.';
    *at++ = (char)('0' + rest / 100);
    if (rest % 100 != 0) {
        *at++ = (char)('0' + rest / 10 % 10);
        if (rest % 10 != 0) {
            *at++ = (char)('0' + rest % 10);
        }
    }
    return at;
}

static char *
put_float(char *at, double value)
{
    char *end = put_thousandths(at, value);

    if (end != NULL) {
        return end;
    }
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

/* -- text ------------------------------------------------------------------------------------ */

static bool
put_bytes(kobs_text *out, PyObject *made)
{
    if (made == NULL || !PyBytes_Check(made)) {
        if (made != NULL) {
            PyErr_Format(PyExc_TypeError, "expected bytes, got %R", made);
        }
        return false;
    }
    size_t length = (size_t)PyBytes_GET_SIZE(made);
    if (!kobs_text_room(out, length)) {
        return false;
    }
    out->at = put_few(out->at, PyBytes_AS_STRING(made), length);
    return true;
}

static bool
put_new_bytes(kobs_text *out, PyObject *made)
{
    bool done = put_bytes(out, made);

    Py_XDECREF(made);
    return done;
}

static bool
is_plain(char each)
{
    return each >= ' ' && each <= '~' && each != '"' && each != '\\';
}

static bool
put_text(kobs_text *out, const uint8_t *at, size_t size)
{
    size_t length = at[0] < size ? at[0] : size;
    const char *data = (const char *)at + 1;

    if (!kobs_text_room(out, length + 2)) {
        return false;
    }
    char *to = out->at;
    *to++ = '"';
    for (size_t index = 0; index < length; index++) {
        if (!is_plain(data[index])) {
            PyObject *text = PyUnicode_DecodeUTF8(data, (Py_ssize_t)length, "surrogateescape");
            PyObject *made = text == NULL ? NULL : kobs_json_text(text);
            Py_XDECREF(text);
            return put_new_bytes(out, made);
        }
        *to++ = data[index];
    }
    *to++ = '"';
    out->at = to;
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
static bool
canonical_json(const char *at, size_t length)
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

static bool
put_json(kobs_text *out, const kobs_column *column, const uint8_t *at)
{
    size_t length = at[0] < column->size ? at[0] : column->size;
    const char *data = (const char *)at + 1;

    if (canonical_json(data, length)) {
        if (!kobs_text_room(out, length)) {
            return false;
        }
        memcpy(out->at, data, length);
        out->at += length;
        return true;
    }
    return put_new_bytes(out, PyObject_CallFunction(column->extra, "y#", data,
                                                    (Py_ssize_t)length));
}

static bool
put_member(kobs_text *out, const kobs_column *constant, uint8_t value)
{
    kobs_column *column = (kobs_column *)constant; /* remembers what it was told */

    if (column->members == NULL) {
        column->members = PyMem_Calloc(256, sizeof(PyObject *));
        if (column->members == NULL) {
            PyErr_NoMemory();
            return false;
        }
    }
    if (column->members[value] == NULL) {
        PyObject *made = PyObject_CallFunction(column->extra, "B", value);
        if (made == NULL) {
            return false;
        }
        Py_XSETREF(column->members[value], made);
    }
    return put_bytes(out, column->members[value]);
}

/* -- an event -------------------------------------------------------------------------------- */

static bool
put_column(types_object *self, kobs_text *out, const kobs_column *column, const uint8_t *slot)
{
    const uint8_t *at = slot + column->offset;
    uint64_t number = 0;
    double real;
    char *end;

    if (!kobs_text_room(out, column->label_length + 40)) {
        return false;
    }
    out->at = put_few(out->at, column->label, column->label_length);
    switch (column->kind) {
    case KIND_UNSIGNED:
        memcpy(&number, at, column->size);
        out->at = put_unsigned(out->at, number);
        return true;
    case KIND_SIGNED:
        memcpy(&number, at, column->size);
        out->at = put_signed(out->at, (int64_t)(number << (64 - 8 * column->size))
                                          >> (64 - 8 * column->size));
        return true;
    case KIND_FLOAT:
        memcpy(&real, at, sizeof(real));
        end = put_float(out->at, real);
        out->at = end != NULL ? end : out->at;
        return end != NULL;
    case KIND_BOOL:
        memcpy(out->at, *at ? "true" : "false", 5);
        out->at += *at ? 4 : 5;
        return true;
    case KIND_NAME:
        memcpy(&number, at, 4);
        return put_bytes(out, kobs_string_json(self, number));
    case KIND_IDENTIFIER:
        memcpy(&number, at, 8);
        if (number >> 63) {
            return put_bytes(out, kobs_string_json(self, number & ~(1ull << 63)));
        }
        out->at = put_unsigned(out->at, number);
        return true;
    case KIND_TEXT:
        return put_text(out, at, column->size);
    case KIND_JSON:
        return put_json(out, column, at);
    case KIND_ENUM:
        return put_member(out, column, *at);
    }
    Py_UNREACHABLE();
}

/* The date of a day since 1970 (H. Hinnant, "chrono-compatible low-level date algorithms"). */
static void
write_second(char text[24], int64_t second)
{
    int64_t days = second / 86400 + 719468, rest = second % 86400;
    int64_t era = days / 146097, of_era = days % 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t shifted = (5 * of_year + 2) / 153;
    int parts[] = {
        (int)(shifted < 10 ? shifted + 3 : shifted - 9), (int)(of_year - (153 * shifted + 2) / 5 + 1),
        (int)(rest / 3600), (int)(rest / 60 % 60), (int)(rest % 60),
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

static bool
put_time(kobs_text *out, kobs_wall *wall, uint64_t timestamp_ns)
{
    static const int64_t billion = 1000000000, last = 253402300799; /* of the year 9999 */
    __int128 moment = (__int128)wall->offset_ns + timestamp_ns;

    if (moment < 0 || moment >= ((__int128)last + 1) * billion) {
        PyObject *text = PyObject_CallFunction(wall->clock, "K", (unsigned long long)timestamp_ns);
        PyObject *made = text == NULL ? NULL : kobs_json_text(text);
        Py_XDECREF(text);
        return put_new_bytes(out, made);
    }
    int64_t second;
    unsigned rest;
    if (moment <= INT64_MAX) { /* without a call */
        second = (int64_t)moment / billion;
        rest = (unsigned)((int64_t)moment % billion);
    }
    else {
        second = (int64_t)(moment / billion);
        rest = (unsigned)(moment % billion);
    }
    if (second != wall->second) {
        write_second(wall->text, second);
        wall->second = second;
    }
    char *at = out->at;
    *at++ = '"';
    memcpy(at, wall->text, 20);
    at += 20;
    for (int place = 8; place > 0; place -= 2, rest /= 100) {
        memcpy(at + place - 1, pairs + 2 * (rest % 100), 2);
    }
    *at = (char)('0' + rest);
    at += 9;
    memcpy(at, "Z\"", 2);
    out->at = at + 2;
    return true;
}

#define PUT(literal) (memcpy(at, literal, sizeof(literal) - 1), at += sizeof(literal) - 1)

int
kobs_write_line(types_object *self, kobs_text *out, const uint64_t *words, unsigned lane,
                uint64_t ticket, kobs_wall *wall, bool *left)
{
    const kobs_type *type = kobs_type_of(self, kobs_slot_type(words));
    unsigned severity = words[7] >> 16 & 15, category = words[7] >> 20 & 15;
    unsigned flags = words[7] >> 24 & 255;
    uint32_t origin = (uint32_t)(words[7] >> 32);

    *left = false;
    if (type == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (severity >= self->severities || category >= self->categories) {
        return 0;
    }
    if (!type->known) {
        *left = true;
        return 0;
    }
    if (!kobs_text_room(out, 512 + type->label_length)) {
        return -1;
    }
    uint64_t id = kobs_slot_id(self, lane, ticket);
    char *at = out->at;
    PUT("{\"id\":");
    at = put_unsigned(at, id);
    memcpy(at, type->label, type->label_length <= KOBS_LABEL ? KOBS_LABEL : type->label_length);
    at = put_unsigned(at + type->label_length, words[1]);
    PUT(",\"severity\":");
    memcpy(at, self->levels[severity], 24);
    at += self->level_lengths[severity];
    PUT(",\"category\":");
    memcpy(at, self->groups[category], 24);
    at += self->group_lengths[category];
    PUT(",\"pid\":");
    at = put_unsigned(at, (uint32_t)words[6]);
    PUT(",\"tid\":");
    at = put_unsigned(at, words[6] >> 32);
    PUT(",\"causality_id\":");
    at = put_unsigned(at, words[2]);
    PUT(",\"parent\":");
    at = put_unsigned(at, words[3]);
    PUT(",\"span_id\":");
    at = put_unsigned(at, words[4]);
    PUT(",\"link\":");
    at = put_unsigned(at, words[5]);
    PUT(",\"origin\":");
    if (origin == 0) {
        PUT("\"\"");
    }
    else {
        out->at = at;
        if (!put_bytes(out, kobs_string_json(self, origin)) || !kobs_text_room(out, 128)) {
            return -1;
        }
        at = out->at;
    }
    if (flags & KOBS_FLAG_TRUNCATED) {
        PUT(",\"truncated\":true,\"partial\":");
    }
    else {
        PUT(",\"truncated\":false,\"partial\":");
    }
    if (flags & KOBS_FLAG_PARTIAL) {
        PUT("true,\"payload\":{");
    }
    else {
        PUT("false,\"payload\":{");
    }
    out->at = at;
    for (Py_ssize_t index = 0; index < type->count; index++) {
        if (!put_column(self, out, &type->columns[index], (const uint8_t *)words)) {
            return -1;
        }
    }
    if (!kobs_text_room(out, 160)) {
        return -1;
    }
    at = out->at;
    if (flags & KOBS_FLAG_BEGIN) {
        PUT("},\"scope\":\"begin\",\"recording\":");
    }
    else if (flags & KOBS_FLAG_END) {
        PUT("},\"scope\":\"end\",\"recording\":");
    }
    else {
        PUT("},\"scope\":null,\"recording\":");
    }
    at = put_unsigned(at, id >> 44);
    PUT(",\"time\":");
    out->at = at;
    if (!wall->known) {
        memcpy(out->at, "null", 4);
        out->at += 4;
    }
    else if (!put_time(out, wall, words[1])) {
        return -1;
    }
    if (!kobs_text_room(out, 2)) {
        return -1;
    }
    *out->at++ = '}';
    *out->at++ = '\n';
    return 1;
}

/* -- from Python ----------------------------------------------------------------------------- */

const char kobs_types_lines_doc[]
    = "lines(slots, offset_ns, clock, otherwise) -> (lines, written, undecoded)\n\n"
      "A line of JSON for each slot. `offset_ns` is wall time minus monotonic time, None where it "
      "is not known; `clock(timestamp_ns)` the text of a moment outside of the common years; "
      "`otherwise(slot)` the line of an event that is not known here, None for none.";

/* A slot that is left to Python. 1, 0 where there is no line, -1 with an exception set. */
static int
ask_for_line(kobs_text *out, PyObject *otherwise, PyObject *slot)
{
    PyObject *made = PyObject_CallOneArg(otherwise, slot);

    if (made == NULL || made == Py_None) {
        Py_XDECREF(made);
        return made == NULL ? -1 : 0;
    }
    return put_new_bytes(out, made) ? 1 : -1;
}

PyObject *
kobs_types_lines(types_object *self, PyObject *const *args, Py_ssize_t count)
{
    kobs_wall wall = {.second = -1};
    kobs_text out = {0};
    Py_ssize_t written = 0, undecoded = 0;
    PyObject *found = NULL;

    if (count != 4 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "lines(slots, offset_ns, clock, otherwise)");
        return NULL;
    }
    wall.clock = args[2];
    if (args[1] != Py_None) {
        wall.known = true;
        wall.offset_ns = PyLong_AsLongLong(args[1]);
        if (wall.offset_ns == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(args[0]); index++) {
        PyObject *slot = Py_NewRef(PyList_GET_ITEM(args[0], index));
        unsigned lane;
        uint64_t ticket;
        bool left = false;
        const uint64_t *words = kobs_raw_slot(slot, &lane, &ticket);
        int done = words == NULL ? -1
                                 : kobs_write_line(self, &out, words, lane, ticket, &wall, &left);
        if (left) {
            done = ask_for_line(&out, args[3], slot);
        }
        Py_DECREF(slot);
        if (done < 0) {
            goto end;
        }
        written += done;
        undecoded += !done && !left;
    }
    found = Py_BuildValue("(y#nn)", out.start == NULL ? "" : out.start,
                          (Py_ssize_t)(out.at - out.start), written, undecoded);
end:
    PyMem_Free(out.start);
    return found;
}
