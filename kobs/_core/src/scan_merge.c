/* A scan over slots of several recordings, merged by time. */

#include "scan.h"

typedef struct {
    condition_object *condition;
    PyObject *portions; /* an iterator of lists of RawSlots */
    PyObject *slots;    /* the list that is looked at, or NULL */
    PyObject *slot;     /* the next one, in there before `index`; NULL: there is none any more */
    Py_ssize_t index;
    const uint64_t *words;
    unsigned lane;
    uint64_t ticket, undecoded;
    kobs_outlook outlooks[KOBS_OUTLOOKS];
} source;

/* Move on to the next slot. */
static bool
advance(source *from)
{
    Py_CLEAR(from->slot);
    while (from->slots == NULL || from->index >= PyList_GET_SIZE(from->slots)) {
        Py_XSETREF(from->slots, PyIter_Next(from->portions));
        if (from->slots == NULL) {
            return !PyErr_Occurred();
        }
        if (!PyList_Check(from->slots)) {
            PyErr_Format(PyExc_TypeError, "expected a list of RawSlots, got %R", from->slots);
            return false;
        }
        from->index = 0;
    }
    from->slot = kobs_list_item(from->slots, from->index++);
    if (from->slot == NULL) {
        return false;
    }
    from->words = kobs_raw_slot(from->slot, &from->lane, &from->ticket);
    return from->words != NULL;
}

static bool
take_source(core_state *state, PyObject *given, source *to)
{
    if (!PyTuple_Check(given) || PyTuple_GET_SIZE(given) != 2
        || !Py_IS_TYPE(PyTuple_GET_ITEM(given, 0), state->condition_type)) {
        PyErr_Format(PyExc_TypeError, "expected (Condition, portions), got %R", given);
        return false;
    }
    to->condition = (condition_object *)Py_NewRef(PyTuple_GET_ITEM(given, 0));
    to->portions = PyObject_GetIter(PyTuple_GET_ITEM(given, 1));
    return to->portions != NULL && advance(to);
}

static bool
scan_next(source *from, unsigned number, kobs_scan *scan)
{
    uint64_t undecoded = scan->undecoded;
    int done;

    scan->source = number;
    scan->outlooks = from->outlooks;
    KOBS_LOCK(from->condition->types)
    done = kobs_scan_slot(from->condition, scan, from->words, from->lane, from->ticket);
    KOBS_UNLOCK()
    from->undecoded += scan->undecoded - undecoded;
    return done == 0 && advance(from);
}

/* Of several at once the first one's is first. */
static bool
scan_all(source *sources, Py_ssize_t count, kobs_scan *scan)
{
    for (;;) {
        Py_ssize_t oldest = -1;
        for (Py_ssize_t each = 0; each < count; each++) {
            if (sources[each].slot != NULL
                && (oldest < 0 || sources[each].words[1] < sources[oldest].words[1])) {
                oldest = each;
            }
        }
        if (oldest < 0 || scan->given_up) {
            return true;
        }
        if (!scan_next(&sources[oldest], (unsigned)oldest, scan)) {
            return false;
        }
    }
}

static bool
note_sources(found_object *found, const source *sources, Py_ssize_t count)
{
    found->sources = PyList_New(count);
    found->undecoded = PyList_New(count);
    if (found->sources == NULL || found->undecoded == NULL) {
        return false;
    }
    for (Py_ssize_t each = 0; each < count; each++) {
        PyObject *undecoded = PyLong_FromUnsignedLongLong(sources[each].undecoded);
        if (undecoded == NULL) {
            return false;
        }
        PyList_SET_ITEM(found->undecoded, each, undecoded);
        PyList_SET_ITEM(found->sources, each, Py_NewRef(sources[each].condition->types));
    }
    return true;
}

PyObject *
kobs_scan_merged(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    core_state *state = PyModule_GetState(module);
    found_object *found = NULL;
    Py_ssize_t taken = 0;

    if (count != 5 || !PyList_Check(args[0]) || PyList_GET_SIZE(args[0]) == 0) {
        PyErr_SetString(PyExc_TypeError,
                        "scan([(Condition, portions), ...], keep, durations, by_pid, by_type)");
        return NULL;
    }
    Py_ssize_t given = PyList_GET_SIZE(args[0]);
    source *sources = PyMem_Calloc((size_t)given, sizeof(source));
    if (sources == NULL) {
        return PyErr_NoMemory();
    }
    bool done = true;
    while (done && taken < given) {
        PyObject *each = kobs_list_item(args[0], taken);
        done = each != NULL && take_source(state, each, &sources[taken]);
        Py_XDECREF(each);
        taken++;
    }
    if (done) {
        found = kobs_found_new(state, sources[0].condition->types, args + 1);
        done = found != NULL && scan_all(sources, given, &found->scan)
               && note_sources(found, sources, given);
    }
    if (found != NULL) {
        found->scan.outlooks = NULL; /* they go with the sources */
    }
    for (Py_ssize_t each = 0; each < taken; each++) {
        Py_XDECREF(sources[each].condition);
        Py_XDECREF(sources[each].portions);
        Py_XDECREF(sources[each].slots);
        Py_XDECREF(sources[each].slot);
    }
    PyMem_Free(sources);
    return found == NULL ? NULL : kobs_found_finish(state, found, done ? 0 : -1);
}
