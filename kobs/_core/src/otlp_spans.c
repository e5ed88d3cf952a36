/* `SpanEncoder`: plain spans as OTLP, straight from their two slots. The Python twin is
 * kobs/export/otlp_spans.py with otlp_encode.py, which say what a span is made of; what is not plain
 * (an error, links, overflow records, conventions beyond the commonest) is left to it. */

#include "text.h"
#include "types.h"

typedef struct {
    PyObject_HEAD
    types_object *types;
    PyObject *open;     /* {id of the begin event: its RawSlot}: spans that Python does not know */
    PyObject *by_span;  /* {span id: id of the begin event}, of the same */
    PyObject *adopted;  /* {chain: (trace id, flags, exported, tracestate)}; Python's to fill */
    PyObject *received; /* {event: ...} of events that received something; Python's to fill */
    PyObject *remote;   /* {span id: ...} of other processes' spans; Python's to fill */
    uint64_t trace_high;
    uint32_t pid;       /* of the resource */
    uint16_t began_id, ended_id, first_id, last_id; /* payload types that spans are made of */
    PyObject *kinds, *statuses;
    unsigned syscall, network; /* categories with conventions of their own */
    Py_ssize_t most;
} encoder_object;

/* Where the fields lie in a slot. */
typedef struct {
    uint16_t name, kind, parent_span;
} begin_layout;

typedef struct {
    uint16_t name, status, attributes, attributes_size;
} end_layout;

typedef struct {
    uint64_t before[KOBS_LANES];
    int64_t monotonic[2], offset[2];
    int clocks;
    begin_layout began;
    end_layout ended;
    bool known;
    kobs_text out;
    Py_ssize_t count, unsampled;
    uint64_t last_ns;
} work;

/* -- the wire format ------------------------------------------------------------------------- */

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

/* -- what is known of a slot ------------------------------------------------------------------ */

static bool
is_name(const kobs_column *column)
{
    return column->kind == KIND_NAME && column->size == 4;
}

/* False where the recording declares another layout than this one reads. */
static bool
find_layout(encoder_object *self, work *now)
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
    return true;
}

/* A string that is written in JSON as it is: where it begins, NULL where it is not, or with an
 * exception set. */
static const char *
plain_name(encoder_object *self, const char *slot, uint16_t offset, size_t *length)
{
    uint32_t id;

    memcpy(&id, slot + offset, 4);
    PyObject *json = id == 0 ? NULL : kobs_string_json(self->types, id);
    if (json == NULL) {
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

enum { FAILED = -1, LEFT, DONE };

typedef struct {
    char id[16];
    uint32_t flags;
    bool exported;
    PyObject *state; /* UTF-8, held; NULL: none */
} trace;

static int
find_trace(encoder_object *self, uint64_t chain, trace *to)
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

static int
put_span(encoder_object *self, work *now, const uint64_t *began, const uint64_t *ended,
         const trace *of)
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
    /* Origins and truncated attributes have conventions of their own, as errors have. */
    if (kind_number < 0 || status_number < 0 || category == self->network || flags & KOBS_FLAG_TRUNCATED
        || ended[7] >> 32 != 0) {
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
    if (!kobs_text_room(&now->out, most)) {
        return FAILED;
    }
    enum { HEAD = 1 + 5 };
    char *start = now->out.at + HEAD, *at = start;
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
    at = put_integer_attribute(at, "thread.id", 9, (int64_t)(ended[6] >> 32));
    if ((uint32_t)ended[6] != self->pid) {
        at = put_integer_attribute(at, "process.pid", 11, (int64_t)(uint32_t)ended[6]);
    }
    if (category == self->syscall) {
        at = put_text_attribute(at, "kobs.syscall", 12, name, name_length);
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
    char *head = now->out.at;
    *head++ = (char)TAG(2, LENGTH);
    head = put_varint(head, length);
    memmove(head, start, length);
    now->out.at = head + length;
    now->count++;
    return DONE;
}

/* -- slots ------------------------------------------------------------------------------------ */

static int
tell(PyObject *otherwise, PyObject *slot)
{
    PyObject *done = PyObject_CallOneArg(otherwise, slot);

    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Forget a begin, and give its slot (a new reference): 1, 0 where it is not known, -1 with an
 * exception set. */
static int
take_open(encoder_object *self, uint64_t event, PyObject **slot)
{
    PyObject *key = PyLong_FromUnsignedLongLong(event), *span = NULL;
    int found = key == NULL ? -1 : kobs_dict_item(self->open, key, slot);

    if (found > 0) {
        const uint64_t *words
            = (const uint64_t *)PyBytes_AS_STRING(PyTuple_GET_ITEM(*slot, 2));
        span = PyLong_FromUnsignedLongLong(words[4]);
        if (span == NULL || PyDict_DelItem(self->open, key) < 0) {
            Py_CLEAR(*slot);
            found = -1;
        }
        else if (PyDict_DelItem(self->by_span, span) < 0) {
            PyErr_Clear(); /* a later span has the same id */
        }
    }
    Py_XDECREF(span);
    Py_XDECREF(key);
    return found;
}

/* Let Python know the begin of a span that turns out not to be plain. */
static int
hand_over(encoder_object *self, uint64_t event, PyObject *otherwise)
{
    PyObject *slot;
    int found = take_open(self, event, &slot);

    if (found > 0) {
        found = tell(otherwise, slot);
        Py_DECREF(slot);
    }
    return found < 0 ? -1 : 0;
}

static int
hand_over_span(encoder_object *self, uint64_t span, PyObject *otherwise)
{
    PyObject *key = PyLong_FromUnsignedLongLong(span), *event = NULL;
    int found = key == NULL ? -1 : kobs_dict_item(self->by_span, key, &event);

    Py_XDECREF(key);
    if (found > 0) {
        uint64_t number = PyLong_AsUnsignedLongLong(event);
        Py_DECREF(event);
        return PyErr_Occurred() ? -1 : hand_over(self, number, otherwise);
    }
    return found;
}

static int
take_began(encoder_object *self, PyObject *slot, const uint64_t *words, unsigned lane,
           uint64_t ticket, PyObject *otherwise)
{
    if (PyDict_GET_SIZE(self->open) >= self->most) {
        return tell(otherwise, slot);
    }
    PyObject *event = PyLong_FromUnsignedLongLong(kobs_slot_id(self->types, lane, ticket));
    PyObject *span = PyLong_FromUnsignedLongLong(words[4]);
    int done = event == NULL || span == NULL || PyDict_SetItem(self->open, event, slot) < 0
                       || PyDict_SetItem(self->by_span, span, event) < 0
                   ? -1
                   : 0;
    Py_XDECREF(event);
    Py_XDECREF(span);
    return done;
}

static int
take_ended(encoder_object *self, work *now, PyObject *slot, const uint64_t *words, unsigned lane,
           uint64_t ticket, PyObject *otherwise)
{
    PyObject *began;
    int found = take_open(self, words[3], &began), done = LEFT;
    trace of;

    if (found <= 0) {
        return found < 0 ? -1 : tell(otherwise, slot);
    }
    if (words[2] == 0) {
        done = DONE; /* of no trace */
    }
    else if ((done = find_trace(self, words[2], &of)) == DONE) {
        if (!of.exported) {
            /* What Python makes of it may say otherwise only where it is left to it anyway. */
            now->unsampled += ticket >= now->before[lane];
        }
        else {
            char *before = now->out.at == NULL ? NULL : now->out.at;
            size_t at = (size_t)(before - now->out.start);
            done = put_span(self, now,
                            (const uint64_t *)PyBytes_AS_STRING(PyTuple_GET_ITEM(began, 2)), words,
                            &of);
            if (done == DONE && ticket < now->before[lane]) {
                now->out.at = now->out.start + at; /* it was exported before */
                now->count--;
            }
        }
        Py_XDECREF(of.state);
    }
    if (done == LEFT) {
        done = tell(otherwise, began) < 0 ? FAILED : tell(otherwise, slot);
    }
    Py_DECREF(began);
    return done < 0 ? -1 : 0;
}

static int
take_slot(encoder_object *self, work *now, PyObject *slot, PyObject *otherwise)
{
    unsigned lane;
    uint64_t ticket;
    const uint64_t *words = kobs_raw_slot(slot, &lane, &ticket);

    if (words == NULL) {
        return -1;
    }
    uint16_t type = kobs_slot_type(words);
    now->last_ns = words[1] > now->last_ns ? words[1] : now->last_ns;
    if (type == self->began_id && now->known && lane < KOBS_LANES && words[7] >> 32 == 0) {
        return take_began(self, slot, words, lane, ticket, otherwise);
    }
    if (type == self->ended_id && lane < KOBS_LANES) {
        return take_ended(self, now, slot, words, lane, ticket, otherwise);
    }
    if (type >= self->first_id && type <= self->last_id) {
        return hand_over(self, words[3], otherwise) < 0 ? -1 : tell(otherwise, slot);
    }
    if (words[5] != 0) { /* the span that receives what was sent has a link of it */
        return hand_over_span(self, words[4], otherwise) < 0 ? -1 : tell(otherwise, slot);
    }
    return 0;
}

/* -- from Python ------------------------------------------------------------------------------ */

PyDoc_STRVAR(take_doc,
             "take(slots, before, clocks, otherwise) -> (spans, count, unsampled, last_ns)\n\n"
             "The plain spans that ended in these slots, as fields of `ScopeSpans`. `before`: a "
             "ticket a lane; what ended before it was exported. `clocks`: one or two of (monotonic "
             "ns, wall time minus it). `otherwise(slot)` is called for what is left to Python. "
             "`last_ns`: the newest time of a slot.");

static int
take_clocks(work *now, PyObject *clocks)
{
    Py_ssize_t count = PyTuple_Check(clocks) ? PyTuple_GET_SIZE(clocks) : 0;

    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, "clocks: one or two pairs were expected");
        return -1;
    }
    for (Py_ssize_t each = 0; each < count; each++) {
        long long monotonic, offset;
        PyObject *pair = PyTuple_GET_ITEM(clocks, each);
        if (!PyTuple_Check(pair) || !PyArg_ParseTuple(pair, "LL:clocks", &monotonic, &offset)) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_TypeError, "clocks: pairs were expected");
            }
            return -1;
        }
        now->monotonic[each] = monotonic;
        now->offset[each] = offset;
    }
    now->clocks = (int)count;
    return 0;
}

static PyObject *
take(encoder_object *self, PyObject *args)
{
    PyObject *given, *clocks, *otherwise, *made = NULL;
    unsigned long long before[KOBS_LANES];
    work now = {0};

    if (!PyArg_ParseTuple(args, "O!(KK)OO:take", &PyList_Type, &given, &before[0], &before[1],
                          &clocks, &otherwise)
        || take_clocks(&now, clocks) < 0) {
        return NULL;
    }
    now.before[0] = before[0];
    now.before[1] = before[1];
    now.known = find_layout(self, &now);
    if (PyErr_Occurred()) {
        return NULL;
    }
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(given); index++) {
        PyObject *slot = kobs_list_item(given, index);
        int done = slot == NULL ? -1 : take_slot(self, &now, slot, otherwise);
        Py_XDECREF(slot);
        if (done < 0) {
            goto end;
        }
    }
    made = Py_BuildValue("(y#nnK)", now.out.start == NULL ? "" : now.out.start,
                         (Py_ssize_t)(now.out.at - now.out.start), now.count, now.unsampled,
                         (unsigned long long)now.last_ns);
end:
    PyMem_Free(now.out.start);
    return made;
}

static PyObject *
encoder_take(encoder_object *self, PyObject *args)
{
    PyObject *made;

    KOBS_LOCK(self->types)
    made = take(self, args);
    KOBS_UNLOCK()
    return made;
}

PyDoc_STRVAR(release_doc, "release() -> [RawSlot]\n\nThe begins of the spans that are open, which "
                          "are forgotten here.");

static PyObject *
encoder_release(encoder_object *self, PyObject *Py_UNUSED(none))
{
    PyObject *found;

    KOBS_LOCK(self->types)
    found = PyDict_Values(self->open);
    PyDict_Clear(self->open);
    PyDict_Clear(self->by_span);
    KOBS_UNLOCK()
    return found;
}

static PyObject *
encoder_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {
        "types", "trace_high", "pid", "type_ids", "kinds", "statuses", "syscall", "network",
        "adopted", "received", "remote", "most",
        NULL,
    };
    PyObject *types, *kinds, *statuses, *adopted, *received, *remote;
    unsigned long long trace_high;
    unsigned long pid;
    unsigned syscall, network;
    unsigned short began_id, ended_id, first_id, last_id;
    Py_ssize_t most;

    if (!PyArg_ParseTupleAndKeywords(
            args, keywords, "$OKk(HHHH)O!O!IIO!O!O!n:SpanEncoder", names, &types, &trace_high, &pid,
            &began_id, &ended_id, &first_id, &last_id, &PyDict_Type, &kinds, &PyDict_Type,
            &statuses, &syscall, &network, &PyDict_Type, &adopted, &PyDict_Type, &received,
            &PyDict_Type, &remote, &most)) {
        return NULL;
    }
    PyObject *module = PyType_GetModuleByDef(type, &kobs_module);
    core_state *state = module == NULL ? NULL : PyModule_GetState(module);
    if (state == NULL || !Py_IS_TYPE(types, state->types_type)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "types: expected Types");
        }
        return NULL;
    }
    encoder_object *self = (encoder_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->types = (types_object *)Py_NewRef(types);
    self->kinds = Py_NewRef(kinds);
    self->statuses = Py_NewRef(statuses);
    self->syscall = syscall;
    self->network = network;
    self->adopted = Py_NewRef(adopted);
    self->received = Py_NewRef(received);
    self->remote = Py_NewRef(remote);
    self->open = PyDict_New();
    self->by_span = PyDict_New();
    self->trace_high = trace_high;
    self->pid = (uint32_t)pid;
    self->began_id = began_id;
    self->ended_id = ended_id;
    self->first_id = first_id;
    self->last_id = last_id;
    self->most = most;
    if (self->open == NULL || self->by_span == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
encoder_traverse(encoder_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->types);
    Py_VISIT(self->open);
    Py_VISIT(self->by_span);
    Py_VISIT(self->adopted);
    Py_VISIT(self->received);
    Py_VISIT(self->remote);
    Py_VISIT(self->kinds);
    Py_VISIT(self->statuses);
    return 0;
}

static void
encoder_dealloc(encoder_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->types);
    Py_XDECREF(self->open);
    Py_XDECREF(self->by_span);
    Py_XDECREF(self->adopted);
    Py_XDECREF(self->received);
    Py_XDECREF(self->remote);
    Py_XDECREF(self->kinds);
    Py_XDECREF(self->statuses);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"take", (PyCFunction)encoder_take, METH_VARARGS, take_doc},
    {"release", (PyCFunction)encoder_release, METH_NOARGS, release_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Plain spans as OTLP, straight from their two slots.\n\n"
                "`type_ids`: of SpanBegan, of SpanEnded, and the first and last of the types that "
                "spans are made of. `kinds` and `statuses`: their numbers by name, of those that "
                "are plain. `syscall` and `network`: those categories. `adopted`: "
                "{chain: (trace id, flags, exported, tracestate)}; `received`: {event: ...} of what "
                "received something; `remote`: {span id: ...}; all three "
                "are looked at, not changed. `most`: open spans that are remembered."},
    {Py_tp_new, encoder_new},
    {Py_tp_dealloc, encoder_dealloc},
    {Py_tp_traverse, encoder_traverse},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.SpanEncoder",
    .basicsize = sizeof(encoder_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
kobs_add_span_encoder(PyObject *module)
{
    return kobs_add_type(module, &spec);
}
