/* Slots as lines of JSON. The Python twin is kobs/export/jsonl.py, which says what is in them. */

#include "serialise.h"

static bool
put_json(kobs_text *out, const kobs_column *column, const uint8_t *at)
{
    size_t length = at[0] < column->size ? at[0] : column->size;
    const char *data = (const char *)at + 1;

    if (kobs_canonical_json(data, length)) {
        if (!kobs_text_room(out, length)) {
            return false;
        }
        memcpy(out->at, data, length);
        out->at += length;
        return true;
    }
    return kobs_put_new_bytes(out, PyObject_CallFunction(column->extra, "y#", data,
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
    return kobs_put_bytes(out, column->members[value]);
}

/* -- an event -------------------------------------------------------------------------------- */

/* Of labels 64 bytes can be read: short ones are copied without a call, with what is behind. */
static inline char *
put_label(char *at, const char *label, size_t length)
{
    if (length <= KOBS_LABEL / 2) {
        memcpy(at, label, KOBS_LABEL / 2);
    }
    else if (length <= KOBS_LABEL) {
        memcpy(at, label, KOBS_LABEL);
    }
    else {
        memcpy(at, label, length);
    }
    return at + length;
}

/* An integer of 1, 2, 4 or 8 bytes, without a call. */
static inline uint64_t
read_integer(const uint8_t *at, size_t size)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight = 0;

    switch (size) {
    case 1:
        return *at;
    case 2:
        memcpy(&two, at, 2);
        return two;
    case 4:
        memcpy(&four, at, 4);
        return four;
    case 8:
        memcpy(&eight, at, 8);
        return eight;
    default:
        memcpy(&eight, at, size);
        return eight;
    }
}

static bool
put_column(types_object *self, kobs_text *out, const kobs_column *column, const uint8_t *slot)
{
    const uint8_t *at = slot + column->offset;
    uint64_t number;
    double real;
    char *end;

    if (!kobs_text_room(out, column->label_length + KOBS_LABEL + KOBS_NUMBER)) {
        return false;
    }
    out->at = put_label(out->at, column->label, column->label_length);
    switch (column->kind) {
    case KIND_UNSIGNED:
        out->at = kobs_put_unsigned(out->at, read_integer(at, column->size));
        return true;
    case KIND_SIGNED:
        number = read_integer(at, column->size);
        out->at = kobs_put_signed(out->at, (int64_t)(number << (64 - 8 * column->size))
                                               >> (64 - 8 * column->size));
        return true;
    case KIND_FLOAT:
        memcpy(&real, at, sizeof(real));
        end = kobs_put_float(out->at, real);
        out->at = end != NULL ? end : out->at;
        return end != NULL;
    case KIND_BOOL:
        memcpy(out->at, *at ? "true" : "false", 5);
        out->at += *at ? 4 : 5;
        return true;
    case KIND_NAME:
        return kobs_put_bytes(out, kobs_string_json(self, read_integer(at, 4)));
    case KIND_IDENTIFIER:
        number = read_integer(at, 8);
        if (number >> 63) {
            return kobs_put_bytes(out, kobs_string_json(self, number & ~(1ull << 63)));
        }
        out->at = kobs_put_unsigned(out->at, number);
        return true;
    case KIND_TEXT:
        return kobs_put_text(out, at, column->size);
    case KIND_JSON:
        return put_json(out, column, at);
    case KIND_ENUM:
        return put_member(out, column, *at);
    }
    Py_UNREACHABLE();
}

/* Remember the second of a moment; false where that is in no common year. */
static bool
turn_to_second(kobs_lines *lines, uint64_t timestamp_ns)
{
    static const int64_t billion = 1000000000, last = 253402300799; /* of the year 9999 */
    __int128 moment = (__int128)lines->offset_ns + timestamp_ns;

    if (moment < 0 || moment >= ((__int128)last + 1) * billion) {
        return false;
    }
    int64_t second = (int64_t)(moment / billion), rest = (int64_t)(moment % billion);
    kobs_write_second(lines->second, second);
    lines->begin_ns = timestamp_ns - (uint64_t)rest;
    /* One at either end of the count of nanoseconds serves this moment only. */
    bool whole = timestamp_ns >= (uint64_t)rest
                 && lines->begin_ns <= UINT64_MAX - (uint64_t)billion;
    lines->length_ns = whole ? (uint64_t)billion : 0;
    return true;
}

static bool
put_time(kobs_text *out, kobs_lines *lines, uint64_t timestamp_ns)
{
    if (timestamp_ns - lines->begin_ns >= lines->length_ns && !turn_to_second(lines, timestamp_ns)) {
        PyObject *text = PyObject_CallFunction(lines->clock, "K",
                                               (unsigned long long)timestamp_ns);
        PyObject *made = text == NULL ? NULL : kobs_json_text(text);
        Py_XDECREF(text);
        return kobs_put_new_bytes(out, made);
    }
    uint32_t rest = (uint32_t)(timestamp_ns - lines->begin_ns);
    char *at = out->at;
    *at++ = '"';
    memcpy(at, lines->second, 20);
    at = kobs_put_eight(at + 20, rest / 10);
    *at = (char)('0' + rest % 10);
    memcpy(at + 1, "Z\"", 2);
    out->at = at + 3;
    return true;
}

#define PUT(literal) (memcpy(at, literal, sizeof(literal) - 1), at += sizeof(literal) - 1)

/* The process, the thread and the chain. Most events have those of the one before: the text of a
 * pair of events that have the same is remembered. */
static inline char *
put_who(char *at, kobs_lines *lines, const uint64_t *words)
{
    bool same = words[6] == lines->ids && words[2] == lines->chain;
    char *start = at;

    if (same && lines->who_length > 0) {
        memcpy(at, lines->who, sizeof(lines->who));
        return at + lines->who_length;
    }
    at = kobs_put_unsigned(at, (uint32_t)words[6]);
    PUT(",\"tid\":");
    at = kobs_put_unsigned(at, words[6] >> 32);
    PUT(",\"causality_id\":");
    at = kobs_put_unsigned(at, words[2]);
    PUT(",\"parent\":");
    lines->ids = words[6];
    lines->chain = words[2];
    lines->who_length = 0;
    if (same) {
        lines->who_length = (size_t)(at - start);
        memcpy(lines->who, start, lines->who_length);
    }
    return at;
}

int
kobs_write_line(types_object *self, kobs_text *out, const uint64_t *words, unsigned lane,
                uint64_t ticket, kobs_lines *lines, bool *left)
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
    at = kobs_put_unsigned(at, id);
    at = put_label(at, type->label, type->label_length);
    at = kobs_put_unsigned(at, words[1]);
    memcpy(at, self->levels[severity].text, sizeof(self->levels[0].text));
    at += self->levels[severity].length;
    memcpy(at, self->groups[category].text, sizeof(self->groups[0].text));
    at += self->groups[category].length;
    at = put_who(at, lines, words);
    at = kobs_put_unsigned(at, words[3]);
    PUT(",\"span_id\":");
    at = kobs_put_unsigned(at, words[4]);
    PUT(",\"link\":");
    at = kobs_put_unsigned(at, words[5]);
    PUT(",\"origin\":");
    if (origin == 0) {
        PUT("\"\"");
    }
    else {
        out->at = at;
        if (!kobs_put_bytes(out, kobs_string_json(self, origin)) || !kobs_text_room(out, 128)) {
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
    at = kobs_put_unsigned(at, id >> 44);
    PUT(",\"time\":");
    out->at = at;
    if (!lines->known) {
        memcpy(out->at, "null", 4);
        out->at += 4;
    }
    else if (!put_time(out, lines, words[1])) {
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
    return kobs_put_new_bytes(out, made) ? 1 : -1;
}

PyObject *
kobs_types_lines(types_object *self, PyObject *const *args, Py_ssize_t count)
{
    kobs_lines lines = {0};
    kobs_text out = {0};
    Py_ssize_t written = 0, undecoded = 0;
    PyObject *found = NULL;

    if (count != 4 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "lines(slots, offset_ns, clock, otherwise)");
        return NULL;
    }
    lines.clock = args[2];
    if (args[1] != Py_None) {
        lines.known = true;
        lines.offset_ns = PyLong_AsLongLong(args[1]);
        if (lines.offset_ns == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(args[0]); index++) {
        PyObject *slot = kobs_list_item(args[0], index);
        if (slot == NULL) {
            goto end;
        }
        unsigned lane;
        uint64_t ticket;
        bool left = false;
        const uint64_t *words = kobs_raw_slot(slot, &lane, &ticket);
        int done = words == NULL ? -1
                                 : kobs_write_line(self, &out, words, lane, ticket, &lines, &left);
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
