/* The spans that began in C and have not ended, by span id: a table whose entries are the spans
 * themselves. Ids are random, so their low bits say which bucket. */

#include "span.h"

enum { FIRST_BUCKETS = 64 };

static inline span_object **
bucket_of(span_state *state, uint64_t span_id)
{
    return &state->open[span_id & (state->open_buckets - 1)];
}

/* Make room for one more. 0, or -1 with an exception set where there is no table at all. */
static int
make_room(span_state *state)
{
    size_t before = state->open_buckets, buckets = before == 0 ? FIRST_BUCKETS : before * 2;

    if (state->open_count < before) {
        return 0;
    }
    span_object **old = state->open, **made = PyMem_Calloc(buckets, sizeof(span_object *));
    if (made == NULL) {
        if (before == 0) {
            PyErr_NoMemory();
        }
        return before == 0 ? -1 : 0; /* buckets get longer */
    }
    state->open = made;
    state->open_buckets = buckets;
    for (size_t index = 0; index < before; index++) {
        for (span_object *each = old[index], *next; each != NULL; each = next) {
            span_object **bucket = bucket_of(state, each->span_id);
            next = each->next_open;
            each->next_open = *bucket;
            *bucket = each;
        }
    }
    PyMem_Free(old);
    return 0;
}

int
kobs_span_open(span_object *self)
{
    span_state *state = self->state;
    int done;

    KOBS_LOCK((PyObject *)Py_TYPE(self))
    done = make_room(state);
    if (done == 0) {
        span_object **bucket = bucket_of(state, self->span_id);
        self->next_open = *bucket;
        *bucket = (span_object *)Py_NewRef(self);
        state->open_count++;
    }
    KOBS_UNLOCK()
    return done;
}

void
kobs_span_close(span_object *self)
{
    span_state *state = self->state;
    span_object *found = NULL;

    KOBS_LOCK((PyObject *)Py_TYPE(self))
    if (state->open_count > 0) {
        span_object **at = bucket_of(state, self->span_id);
        while (*at != NULL && *at != self) {
            at = &(*at)->next_open;
        }
        if ((found = *at) != NULL) {
            *at = self->next_open;
            self->next_open = NULL;
            state->open_count--;
        }
    }
    KOBS_UNLOCK()
    Py_XDECREF(found);
}

/* open_span(span_id) -> span | None */
PyObject *
kobs_find_open_span(PyObject *module, PyObject *span_id)
{
    span_state *state = &((core_state *)PyModule_GetState(module))->span;
    PyObject *found = NULL;
    uint64_t number;

    if (kobs_unsigned(span_id, UINT64_MAX, &number) < 0) {
        PyErr_Clear(); /* no span has such an id */
    }
    else if (state->span_type != NULL) {
        KOBS_LOCK((PyObject *)state->span_type)
        span_object *each = state->open_count > 0 ? *bucket_of(state, number) : NULL;
        while (each != NULL && each->span_id != number) {
            each = each->next_open;
        }
        found = Py_XNewRef((PyObject *)each);
        KOBS_UNLOCK()
    }
    return found != NULL ? found : Py_NewRef(Py_None);
}

/* open_spans() -> [span, ...] */
PyObject *
kobs_list_open_spans(PyObject *module, PyObject *Py_UNUSED(none))
{
    span_state *state = &((core_state *)PyModule_GetState(module))->span;
    PyObject *found = PyList_New(0);

    if (found == NULL || state->span_type == NULL) {
        return found;
    }
    KOBS_LOCK((PyObject *)state->span_type)
    for (size_t index = 0; index < state->open_buckets && found != NULL; index++) {
        for (span_object *each = state->open[index]; each != NULL; each = each->next_open) {
            if (PyList_Append(found, (PyObject *)each) < 0) {
                Py_CLEAR(found);
                break;
            }
        }
    }
    KOBS_UNLOCK()
    return found;
}

/* close_span(span) */
PyObject *
kobs_close_open_span(PyObject *module, PyObject *span)
{
    span_state *state = &((core_state *)PyModule_GetState(module))->span;

    if (state->span_type != NULL && PyObject_TypeCheck(span, state->span_type)) {
        kobs_span_close((span_object *)span);
    }
    Py_RETURN_NONE;
}

void
kobs_span_close_all(span_state *state)
{
    span_object **open = state->open;
    size_t buckets = state->open_buckets;

    state->open = NULL;
    state->open_buckets = state->open_count = 0;
    for (size_t index = 0; index < buckets; index++) {
        for (span_object *each = open[index], *next; each != NULL; each = next) {
            next = each->next_open;
            each->next_open = NULL;
            Py_DECREF(each);
        }
    }
    PyMem_Free(open);
}
