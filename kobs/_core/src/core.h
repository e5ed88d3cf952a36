/* What the parts of the extension module share. */

#ifndef KOBS_CORE_H
#define KOBS_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "clock.h"
#include "ring.h"

#if defined(Py_GIL_DISABLED)
#define KOBS_FREE_THREADED 1
#else
#define KOBS_FREE_THREADED 0
#endif

/* What observed callables need (observed.h). */
typedef struct {
    PyTypeObject *function, *running, *coroutine, *generator, *awaitable_generator,
        *async_generator, *async_step;
    PyObject *class_name, *doc_name, *module_name, *wrapped_name; /* "__class__" and so on */
    PyObject *send_name, *throw_name, *close_name;
    PyObject *get_hooks, *set_hooks; /* of sys, for async generators */
} observed_state;

typedef struct {
    PyTypeObject *ring_type, *emitter_type;
    observed_state observed;
    PyObject *header_names[10];
} core_state;

extern struct PyModuleDef kobs_module;

/* -- Ring (ring_type.c) --------------------------------------------------------------------- */

typedef struct ring_object ring_object;

struct ring_object {
    PyObject_HEAD
    kobs_ring ring;
    Py_buffer memory;
    PyObject *string_ids; /* str -> int, of the strings that are in the recording */
    PyObject *intern_new; /* callable(str) -> int: puts a new one there */
    PyObject *locate;     /* callable(lane, segment) -> (segment, memory, words) | None; or NULL */
    struct ring_place *places;
    PyObject *weakrefs;
};

/* The id of a string in the recording, 0 if there is no room for it; -1 with an exception set for
 * what is no string. */
int64_t kobs_intern(ring_object *, PyObject *text);

int kobs_add_ring_type(PyObject *module);

/* -- fields (fields.c) ---------------------------------------------------------------------- */

typedef enum {
    KIND_UNSIGNED,
    KIND_SIGNED,
    KIND_FLOAT,
    KIND_BOOL,
    KIND_NAME,
    KIND_IDENTIFIER,
    KIND_TEXT,
    KIND_JSON,
    KIND_ENUM,
} kobs_kind;

typedef struct {
    kobs_kind kind;
    bool keeps_tail;     /* text: what is cut is the head */
    uint16_t offset;     /* in the payload */
    uint16_t size;       /* bytes there; of text and JSON without the byte of the length */
    PyObject *name;      /* interned */
    PyObject *otherwise; /* the default, NULL if there is none */
    PyObject *extra;     /* enum: the class; JSON: callable(mapping, size) -> bytes | (bytes,) */
} kobs_field;

/* A field from (name, kind, offset, size, has_default, default, extra). */
int kobs_field_init(kobs_field *, PyObject *description);
void kobs_field_clear(kobs_field *);

/* Write a value into a payload; may set bits of `*flags`. -1 with an exception set if it does not
 * fit. */
int kobs_field_write(const kobs_field *, PyObject *value, ring_object *, uint8_t *payload,
                     uint8_t *flags);

/* A plain mapping as compact JSON of at most `size` bytes after a byte with its length; false where
 * Python is to do it. */
bool kobs_json_write(PyObject *mapping, size_t size, uint8_t *at);

/* An integer from 0 to `most`; -1 with an exception set for anything else. */
int kobs_unsigned(PyObject *value, uint64_t most, uint64_t *to);

/* -- Emitter (emitter_type.c) --------------------------------------------------------------- */

typedef struct {
    PyObject *cause_var, *cause_type, *origin_var;
} kobs_context;

/* Header values that a caller gives; what is not in `given` comes from the ambient cause and the
 * payload type. */
enum {
    GIVEN_PID = 1,
    GIVEN_TID = 2,
    GIVEN_SEVERITY = 4,
    GIVEN_CATEGORY = 8,
    GIVEN_CAUSALITY = 16,
    GIVEN_PARENT = 32,
    GIVEN_SPAN = 64,
    GIVEN_TIME = 128,
};

typedef struct {
    unsigned given;
    uint8_t severity, category, flags;
    uint32_t pid, tid;
    uint64_t causality_id, parent, span_id, link, timestamp_ns;
} kobs_given;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *dict, *weakrefs;
    ring_object *ring;
    uint32_t pid;
    uint16_t type_id;
    uint8_t level; /* severity | category << 4 */
    uint8_t lane;
    bool keep;
    Py_ssize_t field_count, required;
    kobs_field *fields;
    size_t body_size;
    Py_ssize_t name_field, duration_field; /* -1: none */
    kobs_context context;
    PyObject *gate;    /* [bool] */
    PyObject *decide;  /* callable(severity, category, causality_id, sampled) -> flags, -1 to drop */
    PyObject *analyse; /* callable(name, duration_us, event), or NULL */
    PyObject *explain; /* callable(error, values, pid, link, parent): raises what is wrong */
    PyObject *title;   /* name of the payload type */
} emitter_object;

/* Emit: `fields` has one value a field. 0, or -1 with an exception set. */
int kobs_emit(emitter_object *, PyObject *const *fields, const kobs_given *, uint64_t *event);

int kobs_add_emitter_type(PyObject *module);

/* -- observed callables (observed*.c) --------------------------------------------------------- */

extern PyMethodDef kobs_observed_functions[];
int kobs_add_observed(PyObject *module);
int kobs_visit_observed(observed_state *, visitproc, void *);
void kobs_clear_observed(observed_state *);

/* -- the layout, for the check at import (layout_table.c) ------------------------------------ */

PyObject *kobs_layout_table(void);

#endif
