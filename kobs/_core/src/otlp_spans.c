/* Plain spans as OTLP: what is known of a slot, and what is written of it. */

#include "otlp_spans.h"

#include "otlp_wire.h"

/* -- what is known of a slot ------------------------------------------------------------------ */

static bool
is_name(const kobs_column *column)
{
    return column->kind == KIND_NAME && column->size == 4;
}

bool
kobs_otlp_layout(encoder_object *self, work *now)
{
    const kobs_type *began = kobs_type_of(self->types, self->began_id);
    const kobs_type *ended = began == NULL ? NULL : kobs_type_of(self->types, self->ended_id);

    if (ended == NULL || !began->known || !ended->known || began->count != 3 || ended->count != 4
        || !is_name(&began->columns[0]) || !is_name(&began->columns[1])
        || began->columns[2].kind != KIND_UNSIGNED || began->columns[2].size != 8
        || !is_name(&ended->columns[0]) || ended->columns[1].kind != KIND_FLOAT
        || !is_name(&ended->columns[2]) || ended->columns[3].kind != KIND_JSON) {
        return false;
    }
    now->began = (begin_layout){began->columns[0].offset, began->columns[1].offset,
                                began->columns[2].offset};
    now->ended = (end_layout){ended->columns[0].offset, ended->columns[2].offset,
                              ended->columns[3].offset, ended->columns[3].size};
    const kobs_type *detailed = kobs_type_of(self->types, self->detailed_id);
    now->details_known = detailed != NULL && detailed->known && detailed->count == 4
                         && is_name(&detailed->columns[0])
                         && detailed->columns[1].kind == KIND_UNSIGNED
                         && detailed->columns[1].size == 4
                         && detailed->columns[2].kind == KIND_UNSIGNED
                         && detailed->columns[2].size == 1
                         && detailed->columns[3].kind == KIND_JSON;
    if (now->details_known) {
        now->detailed = (detail_layout){detailed->columns[0].offset, detailed->columns[1].offset,
                                        detailed->columns[2].offset, detailed->columns[3].offset};
    }
    return !PyErr_Occurred();
}

/* A string that is written in JSON as it is: where it begins, NULL where it is not, or with an
 * exception set. */
static const char *
plain_name(encoder_object *self, const char *slot, uint16_t offset, size_t *length)
{
    uint32_t id;

    memcpy(&id, slot + offset, 4);
    PyObject *json = id == 0 ? NULL : kobs_string_json(self->types, id);
    if (json == NULL || json == self->types->unkept) { /* that goes with the next one */
        return NULL;
    }
    const char *text = PyBytes_AS_STRING(json) + 1;
    *length = (size_t)PyBytes_GET_SIZE(json) - 2;
    return memchr(text, '\\', *length) == NULL ? text : NULL;
}

/* The number of a kind or status; -1 where it is none that is plain, or with an exception set. */
static long
number_of(PyObject *numbers, const char *text, size_t length)
{
    PyObject *key = PyBytes_FromStringAndSize(text, (Py_ssize_t)length), *found = NULL;
    long number = -1;

    if (key != NULL && kobs_dict_item(numbers, key, &found) == 1) {
        number = PyLong_AsLong(found);
        Py_DECREF(found);
    }
    Py_XDECREF(key);
    return number;
}

/* Keys that conventions look at, where a span has no error and is no call of gRPC. */
static bool
is_reserved(const char *key, size_t length)
{
    static const char *const begins[] = {
        "exception.", "thread.id", "process.pid", "kobs.span.name", "kobs.origin", "kobs.syscall",
    };

    for (size_t each = 0; each < sizeof(begins) / sizeof(begins[0]); each++) {
        size_t known = strlen(begins[each]);
        if (length >= known && memcmp(key, begins[each], known) == 0) {
            return true;
        }
    }
    return length == 0;
}

/* One past the attributes of a span, whose JSON is written as Python does it; NULL where there is
 * one that is left to Python. */
static char *
put_attributes(char *at, const char *json, size_t length)
{
    const char *end = json + length - 1;

    if (!kobs_canonical_json(json, length)) {
        return NULL;
    }
    for (json++; json < end; json++) { /* past the brace, or a comma */
        const char *key = json + 1, *stop = memchr(key, '"', (size_t)(end - key));
        size_t key_length = (size_t)(stop - key);
        if (is_reserved(key, key_length)) {
            return NULL;
        }
        const char *value = stop + 2;
        if (*value == '"') {
            const char *text = value + 1;
            json = memchr(text, '"', (size_t)(end - text));
            at = put_text_attribute(at, key, key_length, text, (size_t)(json - text));
            json++;
            continue;
        }
        json = memchr(value, ',', (size_t)(end - value));
        json = json == NULL ? end : json;
        size_t width = (size_t)(json - value);
        if (*value == 't' || *value == 'f') {
            at = put_key(at, key, key_length, 2);
            *at++ = (char)TAG(2, VARINT);
            *at++ = *value == 't';
        }
        else if (*value == 'n') {
            at = put_key(at, key, key_length, 0);
        }
        else {
            char digits[32];
            if (width >= sizeof(digits)) {
                return NULL;
            }
            memcpy(digits, value, width);
            digits[width] = 0;
            if (strpbrk(digits, ".eE") == NULL) {
                if (width > 18) {
                    return NULL; /* perhaps more than 64 bits have room for */
                }
                at = put_integer_attribute(at, key, key_length, strtoll(digits, NULL, 10));
                continue;
            }
            char *after;
            double real = PyOS_string_to_double(digits, &after, NULL);
            if (PyErr_Occurred() || *after) {
                PyErr_Clear();
                return NULL;
            }
            uint64_t bits;
            memcpy(&bits, &real, 8);
            at = put_key(at, key, key_length, 9);
            at = put_fixed64(at, 4, bits);
        }
    }
    return at;
}

/* Wall time minus monotonic time, by the nearest pair of clocks. */
static int64_t
offset_at(const work *now, uint64_t monotonic_ns)
{
    if (now->clocks > 1) {
        int64_t first = (int64_t)monotonic_ns - now->monotonic[0];
        int64_t second = (int64_t)monotonic_ns - now->monotonic[1];
        if ((second < 0 ? -second : second) < (first < 0 ? -first : first)) {
            return now->offset[1];
        }
    }
    return now->offset[0];
}

/* Whether a number is a key: 1, 0, -1 with an exception set. */
static int
has_number(PyObject *dict, uint64_t number)
{
    if (number == 0 || PyDict_GET_SIZE(dict) == 0) {
        return 0;
    }
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    int found = key == NULL ? -1 : PyDict_Contains(dict, key);
    Py_XDECREF(key);
    return found;
}

/* 1 where another process's span is the parent, 0 where not, -1 with an exception set. */
static int
parent_is_remote(encoder_object *self, const uint64_t *began, uint64_t parent_span)
{
    if (began[3] != 0 && began[3] >> 44 != self->types->recording) {
        return 1;
    }
    return has_number(self->remote, parent_span);
}

/* -- a span ----------------------------------------------------------------------------------- */

int
kobs_otlp_trace(encoder_object *self, uint64_t chain, trace *to)
{
    put_big_endian(to->id, self->trace_high);
    put_big_endian(to->id + 8, chain);
    to->flags = 1;
    to->exported = true;
    to->state = NULL;
    if (PyDict_GET_SIZE(self->adopted) == 0) {
        return DONE;
    }
    PyObject *key = PyLong_FromUnsignedLongLong(chain), *found = NULL;
    int there = key == NULL ? -1 : kobs_dict_item(self->adopted, key, &found);
    Py_XDECREF(key);
    if (there <= 0) {
        return there < 0 ? FAILED : DONE;
    }
    const char *id;
    Py_ssize_t length;
    unsigned flags;
    int exported, done = FAILED;
    PyObject *state;
    if (PyTuple_Check(found)
        && PyArg_ParseTuple(found, "y#IpS:adopted", &id, &length, &flags, &exported, &state)) {
        if (length == 16) {
            memcpy(to->id, id, 16);
            to->flags = flags;
            to->exported = exported;
            to->state = PyBytes_GET_SIZE(state) > 0 ? Py_NewRef(state) : NULL;
            done = DONE;
        }
        else {
            PyErr_SetString(PyExc_ValueError, "adopted: a trace id has 16 bytes");
        }
    }
    else if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_TypeError, "adopted: a trace is a tuple");
    }
    Py_DECREF(found);
    return done;
}

int
kobs_otlp_span(encoder_object *self, work *now, kobs_text *out, const uint64_t *began,
               const uint64_t *ended, const uint64_t *detail, const trace *of)
{
    const char *first = (const char *)began, *last = (const char *)ended;
    unsigned flags = ended[7] >> 24 & 255, category = ended[7] >> 20 & 15;
    size_t name_length, kind_length, status_length, state_length = 0;
    const char *name = plain_name(self, last, now->ended.name, &name_length);
    const char *kind = name == NULL ? NULL : plain_name(self, first, now->began.kind, &kind_length);
    const char *status
        = kind == NULL ? NULL : plain_name(self, last, now->ended.status, &status_length);

    if (status == NULL) {
        return PyErr_Occurred() ? FAILED : LEFT;
    }
    int received = has_number(self->received, began[3]); /* its parent is who sent that */
    if (received != 0) {
        return received < 0 ? FAILED : LEFT;
    }
    long kind_number = number_of(self->kinds, kind, kind_length);
    long status_number = number_of(self->statuses, status, status_length);
    if (PyErr_Occurred()) {
        return FAILED;
    }
    uint32_t provider = 0; /* what a tracer made has what its program gave it, and nothing else */
    if (detail != NULL) {
        memcpy(&provider, (const char *)detail + now->detailed.provider, 4);
    }
    bool own = provider == 0;
    /* Origins and truncated attributes have conventions of their own, as errors have. */
    if (kind_number < 0 || status_number < 0
        || (own && (category == self->network || status_number > 1))
        || flags & KOBS_FLAG_TRUNCATED || ended[7] >> 32 != 0) {
        return LEFT;
    }
    const uint8_t *json = (const uint8_t *)last + now->ended.attributes;
    size_t json_length = json[0] < now->ended.attributes_size ? json[0]
                                                              : now->ended.attributes_size;
    uint64_t parent_span;
    memcpy(&parent_span, first + now->began.parent_span, 8);
    int remote = parent_is_remote(self, began, parent_span);
    if (remote < 0) {
        return FAILED;
    }
    if (of->state != NULL) {
        state_length = (size_t)PyBytes_GET_SIZE(of->state);
    }
    size_t most = 512 + 2 * name_length + state_length + 12 * json_length;
    if (!kobs_text_room(out, most)) {
        return FAILED;
    }
    enum { HEAD = 1 + 5 };
    char *start = out->at + HEAD, *at = start;
    *at++ = (char)TAG(1, LENGTH);
    *at++ = 16;
    memcpy(at, of->id, 16);
    at += 16;
    *at++ = (char)TAG(2, LENGTH);
    *at++ = 8;
    at = put_big_endian(at, ended[4]);
    if (state_length > 0) {
        at = put_bytes(at, 3, PyBytes_AS_STRING(of->state), state_length);
    }
    if (parent_span != 0) {
        *at++ = (char)TAG(4, LENGTH);
        *at++ = 8;
        at = put_big_endian(at, parent_span);
    }
    at = put_bytes(at, 5, name, name_length);
    *at++ = (char)TAG(6, VARINT);
    at = put_varint(at, (uint64_t)kind_number);
    int64_t offset = offset_at(now, ended[1]);
    at = put_fixed64(at, 7, began[1] + (uint64_t)offset);
    at = put_fixed64(at, 8, ended[1] + (uint64_t)offset);
    at = put_attributes(at, (const char *)json + 1, json_length);
    if (at == NULL) {
        return LEFT;
    }
    if (own) {
        at = put_integer_attribute(at, "thread.id", 9, (int64_t)(ended[6] >> 32));
        if ((uint32_t)ended[6] != self->pid) {
            at = put_integer_attribute(at, "process.pid", 11, (int64_t)(uint32_t)ended[6]);
        }
        if (category == self->syscall) {
            at = put_text_attribute(at, "kobs.syscall", 12, name, name_length);
        }
    }
    if (status_number > 0) {
        *at++ = (char)TAG(15, LENGTH);
        *at++ = 2;
        *at++ = (char)TAG(3, VARINT);
        *at++ = (char)status_number;
    }
    uint32_t context = of->flags | 0x100 | (remote && parent_span != 0 ? 0x200 : 0);
    at = put_varint(at, TAG(16, FIXED32));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    context = __builtin_bswap32(context);
#endif
    memcpy(at, &context, 4);
    at += 4;
    size_t length = (size_t)(at - start);
    char *head = out->at;
    *head++ = (char)TAG(2, LENGTH);
    head = put_varint(head, length);
    memmove(head, start, length);
    out->at = head + length;
    return DONE;
}
