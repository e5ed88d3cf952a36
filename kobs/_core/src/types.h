/* Payload types as a recording declares them, for whoever reads slots: what lies where, and the
 * strings. The Python twin is kobs/decoder.py. */

#ifndef KOBS_TYPES_H
#define KOBS_TYPES_H

#include "core.h"

enum { KOBS_LABEL = 64 }; /* bytes that can be read of any label */

typedef struct {
    kobs_kind kind;
    bool known;           /* false: Python is to look at it */
    uint16_t offset;      /* in the slot */
    uint16_t size;        /* bytes there; of text and JSON without the byte of the length */
    const char *label;    /* `"name":` with a comma before it unless it is the first */
    size_t label_length;
    PyObject *extra;      /* enum: callable(int) -> bytes; JSON: callable(bytes) -> bytes */
    PyObject **members;   /* enum: the bytes of each value, once it was asked for */
} kobs_column;

typedef struct {
    uint16_t type_id;
    unsigned index;       /* types are numbered as they come */
    unsigned words;       /* of a slot that are in use */
    bool known;           /* every column is */
    PyObject *name;
    const char *label;    /* `,"type":"Name","timestamp_ns":` */
    size_t label_length;
    Py_ssize_t count;
    kobs_column *columns;
    const kobs_column *names;     /* what it happened to; NULL: none */
    const kobs_column *durations; /* its own duration; NULL: none */
    double factor;                /* of the duration, to microseconds */
} kobs_type;

typedef struct {
    char text[48];
    size_t length;
} kobs_word;

typedef struct {
    PyObject_HEAD
    PyObject *find;   /* callable(type id) -> description | None */
    PyObject *string; /* callable(id) -> str */
    kobs_type **pages[256];
    unsigned type_count;
    unsigned severities, categories; /* how many there are */
    kobs_word levels[16], groups[16]; /* `,"severity":"WARN","category":` and `"IPC","pid":` */
    PyObject **strings; /* by id: bytes, as JSON */
    size_t string_room;
    PyObject *unkept;   /* the last string that is not in there */
    void *spare;        /* memory of a scan that is over, for the next one */
    size_t spare_size;
    uint64_t recording; /* as the upper bits of event ids */
} types_object;

/* The type of an id; NULL where the recording does not declare it, with an exception set only for
 * what must not be swallowed. */
const kobs_type *kobs_type_unknown(types_object *, uint16_t type_id);

static inline const kobs_type *
kobs_type_of(types_object *self, uint16_t type_id)
{
    kobs_type **page = self->pages[type_id >> 8];
    const kobs_type *found = page == NULL ? NULL : page[type_id & 255];

    return found != NULL ? found : kobs_type_unknown(self, type_id);
}

/* A string as JSON, quotes included (borrowed, until the next call); NULL with an exception set. */
PyObject *kobs_string_unknown(types_object *, uint64_t id);

static inline PyObject *
kobs_string_json(types_object *self, uint64_t id)
{
    PyObject *found = id < self->string_room ? self->strings[id] : NULL;

    return found != NULL ? found : kobs_string_unknown(self, id);
}

/* Text as JSON writes it in ASCII, quotes included: a new bytes object. */
PyObject *kobs_json_text(PyObject *text);

/* The parts of a slot's header. */
static inline uint16_t
kobs_slot_type(const uint64_t *words)
{
    return (uint16_t)words[7];
}

static inline uint64_t
kobs_slot_id(const types_object *self, unsigned lane, uint64_t ticket)
{
    return self->recording << 44 | (uint64_t)lane << 42 | (ticket & ((1ull << 42) - 1));
}

/* The words of a `RawSlot`'s bytes; NULL with an exception set where it is none. */
const uint64_t *kobs_raw_slot(PyObject *slot, unsigned *lane, uint64_t *ticket);

/* -- methods of Types that are elsewhere ----------------------------------------------------- */

PyObject *kobs_types_lines(types_object *, PyObject *const *args, Py_ssize_t count);
extern const char kobs_types_lines_doc[];

#endif
