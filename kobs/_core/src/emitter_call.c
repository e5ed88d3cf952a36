/* A call of an emitter from Python: its arguments, and what is said of those that do not fit. */

#include "emitter.h"

/* Keywords in source code are interned, so that looking for the very object finds them. */
int
kobs_header_index(PyObject *const *names, PyObject *keyword)
{
    for (int index = 0; index < HEADER_VALUES; index++) {
        if (names[index] == keyword) {
            return index;
        }
    }
    for (int index = 0; index < HEADER_VALUES; index++) {
        if (PyUnicode_Compare(names[index], keyword) == 0) {
            return index;
        }
    }
    return -1;
}

static Py_ssize_t
field_index(emitter_object *self, PyObject *keyword)
{
    for (Py_ssize_t index = 0; index < self->field_count; index++) {
        if (self->fields[index].name == keyword) {
            return index;
        }
    }
    for (Py_ssize_t index = 0; index < self->field_count; index++) {
        if (PyUnicode_Compare(self->fields[index].name, keyword) == 0) {
            return index;
        }
    }
    return -1;
}

int
kobs_take_header(int index, PyObject *value, kobs_given *given)
{
    static const struct {
        unsigned bit;
        uint64_t most;
    } rules[] = {
        [HEADER_PID] = {GIVEN_PID, UINT32_MAX},
        [HEADER_TID] = {GIVEN_TID, UINT32_MAX},
        [HEADER_SEVERITY] = {GIVEN_SEVERITY, 15},
        [HEADER_CATEGORY] = {GIVEN_CATEGORY, 15},
        [HEADER_CAUSALITY] = {GIVEN_CAUSALITY, UINT64_MAX},
        [HEADER_PARENT] = {GIVEN_PARENT, UINT64_MAX},
        [HEADER_SPAN] = {GIVEN_SPAN, UINT64_MAX},
        [HEADER_LINK] = {0, UINT64_MAX},
        [HEADER_TIME] = {GIVEN_TIME, UINT64_MAX},
        [HEADER_FLAGS] = {0, UINT8_MAX},
    };
    uint64_t number;

    if (value == Py_None) {
        return 0;
    }
    if (kobs_unsigned(value, rules[index].most, &number) < 0) {
        return -1;
    }
    given->given |= rules[index].bit;
    switch (index) {
    case HEADER_PID: given->pid = (uint32_t)number; break;
    case HEADER_TID: given->tid = (uint32_t)number; break;
    case HEADER_SEVERITY: given->severity = (uint8_t)number; break;
    case HEADER_CATEGORY: given->category = (uint8_t)number; break;
    case HEADER_CAUSALITY: given->causality_id = number; break;
    case HEADER_PARENT: given->parent = number; break;
    case HEADER_SPAN: given->span_id = number; break;
    case HEADER_LINK: given->link = number; break;
    case HEADER_TIME: given->timestamp_ns = number; break;
    case HEADER_FLAGS: given->flags = (uint8_t)number; break;
    }
    return 0;
}

/* Sort a call's arguments into fields (borrowed; defaults are filled in) and header values.
 * -1 with an exception set for a call that does not fit. */
static int
take_arguments(emitter_object *self, PyObject *const *args, Py_ssize_t positional,
               PyObject *keywords, PyObject **fields, kobs_given *given)
{
    Py_ssize_t index = 0;

    if (positional > self->field_count) {
        PyErr_Format(PyExc_TypeError, "emit_%U() takes %zd positional arguments but %zd were given",
                     self->title, self->field_count, positional);
        return -1;
    }
    for (; index < positional; index++) {
        fields[index] = args[index];
    }
    for (; index < self->field_count; index++) {
        fields[index] = NULL;
    }
    if (keywords != NULL) {
        for (Py_ssize_t each = 0; each < PyTuple_GET_SIZE(keywords); each++) {
            PyObject *keyword = PyTuple_GET_ITEM(keywords, each);
            int at = kobs_header_index(self->header_names, keyword);
            if (at >= 0) {
                if (kobs_take_header(at, args[positional + each], given) < 0) {
                    PyErr_Clear(); /* said when all the fields are known */
                    given->given |= GIVEN_BAD;
                }
                continue;
            }
            index = field_index(self, keyword);
            if (index < 0) {
                PyErr_Format(PyExc_TypeError, "emit_%U() got an unexpected keyword argument '%U'",
                             self->title, keyword);
                return -1;
            }
            if (fields[index] != NULL) {
                PyErr_Format(PyExc_TypeError, "emit_%U() got multiple values for argument '%U'",
                             self->title, keyword);
                return -1;
            }
            fields[index] = args[positional + each];
        }
    }
    for (index = positional; index < self->field_count; index++) {
        if (fields[index] == NULL && (fields[index] = self->fields[index].otherwise) == NULL) {
            PyErr_Format(PyExc_TypeError, "emit_%U() missing required argument: '%U'", self->title,
                         self->fields[index].name);
            return -1;
        }
    }
    return 0;
}

/* The value of a call's keyword, None if it has none. */
static PyObject *
keyword_value(const char *name, PyObject *const *args, Py_ssize_t positional, PyObject *keywords)
{
    for (Py_ssize_t each = 0; keywords != NULL && each < PyTuple_GET_SIZE(keywords); each++) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, each), name) == 0) {
            return args[positional + each];
        }
    }
    return Py_None;
}

void
kobs_explain(emitter_object *self, PyObject *const *fields, PyObject *pid, PyObject *link,
             PyObject *parent)
{
    PyObject *type, *error, *traceback;

    if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_ValueError)
        && !PyErr_ExceptionMatches(PyExc_AttributeError)
        && !PyErr_ExceptionMatches(PyExc_OverflowError)) {
        return;
    }
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *values = PyTuple_New(self->field_count);
    for (Py_ssize_t index = 0; values != NULL && index < self->field_count; index++) {
        PyTuple_SET_ITEM(values, index, Py_NewRef(fields[index]));
    }
    PyObject *said = values == NULL ? NULL : PyObject_CallFunctionObjArgs(
        self->explain, error, values, pid, link, parent, NULL);
    Py_XDECREF(values);
    if (said != NULL) {
        Py_DECREF(said);
        PyErr_Restore(type, error, traceback);
        return;
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
}

/* Most callers drop it at once: then the same object is used for the next one,
 * as `enumerate` does with its tuples, which saves an allocation. */
PyObject *
kobs_event_number(emitter_object *self, uint64_t event)
{
#if !KOBS_FREE_THREADED && PyLong_SHIFT == 30
    PyObject *answer = self->answer;

    if (answer != NULL && Py_REFCNT(answer) == 1 && event >> 60 == 0 && event >> 30 != 0
        && KOBS_DIGIT_COUNT(answer) == 2) {
        KOBS_DIGITS(answer)[0] = (digit)(event & PyLong_MASK);
        KOBS_DIGITS(answer)[1] = (digit)(event >> 30);
        return Py_NewRef(answer);
    }
    answer = PyLong_FromUnsignedLongLong(event);
    Py_XSETREF(self->answer, Py_XNewRef(answer));
    return answer;
#else
    (void)self;
    return PyLong_FromUnsignedLongLong(event);
#endif
}

PyObject *
kobs_call_emitter(emitter_object *self, PyObject *const *args, size_t count, PyObject *keywords)
{
    Py_ssize_t positional = PyVectorcall_NARGS(count);
    PyObject *fields[MAX_FIELDS];
    kobs_given given = {0};
    uint64_t event;
    int64_t entry;

    fields[0] = NULL; /* a payload may have no field */
    if (take_arguments(self, args, positional, keywords, fields, &given) < 0) {
        return NULL;
    }
    if (kobs_emit(self, fields, &given, &event, &entry) < 0) {
        kobs_explain(self, fields, keyword_value("pid", args, positional, keywords),
                     keyword_value("link", args, positional, keywords),
                     keyword_value("parent", args, positional, keywords));
        return NULL;
    }
    if (self->begins) {
        return Py_BuildValue("KL", (unsigned long long)event, (long long)entry);
    }
    return kobs_event_number(self, event);
}
