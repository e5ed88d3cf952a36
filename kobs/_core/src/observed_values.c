/* Where the fields of an observed call's events come from: trees of small steps, evaluated without
 * Python code where the original's own objects need none. */

#include "observed.h"

enum { MAX_CHILDREN = 16 };

static const struct {
    const char *name;
    kobs_node_kind kind;
    Py_ssize_t least, most; /* children */
} kinds[] = {
    {"constant", NODE_CONSTANT, 0, 0}, {"parameter", NODE_PARAMETER, 0, 0},
    {"varargs", NODE_VARARGS, 0, 0}, {"varkw", NODE_VARKW, 0, 0}, {"extra", NODE_EXTRA, 0, 1},
    {"keyword", NODE_KEYWORD, 0, 1}, {"result", NODE_RESULT, 0, 0}, {"error", NODE_ERROR, 0, 0},
    {"elapsed", NODE_ELAPSED, 0, 0}, {"attribute", NODE_ATTRIBUTE, 1, 1}, {"item", NODE_ITEM, 1, 1},
    {"call", NODE_CALL, 0, MAX_CHILDREN}, {"length", NODE_LENGTH, 1, 1},
    {"reach", NODE_REACH, 2, 2}, {"errno", NODE_ERRNO, 1, 1}, {"dict", NODE_DICT, 0, PY_SSIZE_T_MAX},
    {"slower", NODE_SLOWER, 1, 1}, {"all", NODE_ALL, 1, MAX_CHILDREN},
};

int
kobs_node_init(kobs_node *node, PyObject *description)
{
    const char *kind;
    Py_ssize_t index;
    PyObject *object, *children;

    if (!PyArg_ParseTuple(description, "snOO!:node", &kind, &index, &object, &PyTuple_Type,
                          &children)) {
        return -1;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(children);
    size_t at = 0, known = sizeof(kinds) / sizeof(kinds[0]);
    while (at < known && strcmp(kind, kinds[at].name) != 0) {
        at++;
    }
    if (at == known || count < kinds[at].least || count > kinds[at].most || index < 0) {
        PyErr_Format(PyExc_ValueError, "%R is no value that this core knows", description);
        return -1;
    }
    node->kind = kinds[at].kind;
    node->index = index;
    node->object = Py_NewRef(object);
    if (PyUnicode_CheckExact(object)) {
        PyUnicode_InternInPlace(&node->object);
    }
    node->children = PyMem_Calloc((size_t)count + 1, sizeof(kobs_node));
    if (node->children == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (; node->count < count; node->count++) {
        if (kobs_node_init(&node->children[node->count], PyTuple_GET_ITEM(children, node->count))
            < 0) {
            node->count++; /* what it has already is to be cleared too */
            return -1;
        }
    }
    return 0;
}

void
kobs_node_clear(kobs_node *node)
{
    for (Py_ssize_t index = 0; index < node->count; index++) {
        kobs_node_clear(&node->children[index]);
    }
    node->count = 0;
    PyMem_Free(node->children);
    node->children = NULL;
    Py_CLEAR(node->object);
}

int
kobs_node_visit(kobs_node *node, visitproc visit, void *arg)
{
    Py_VISIT(node->object);
    for (Py_ssize_t index = 0; index < node->count; index++) {
        int stop = kobs_node_visit(&node->children[index], visit, arg);
        if (stop != 0) {
            return stop;
        }
    }
    return 0;
}

bool
kobs_node_takes_arguments(const kobs_node *node)
{
    switch (node->kind) {
    case NODE_PARAMETER:
    case NODE_VARARGS:
    case NODE_VARKW:
    case NODE_EXTRA:
    case NODE_KEYWORD:
        return true;
    default:
        break;
    }
    for (Py_ssize_t index = 0; index < node->count; index++) {
        if (kobs_node_takes_arguments(&node->children[index])) {
            return true;
        }
    }
    return false;
}

/* -- arguments ------------------------------------------------------------------------------- */

static bool
same(PyObject *one, PyObject *other)
{
    return one == other || PyUnicode_Compare(one, other) == 0;
}

/* Where a keyword of the call is that has this name; -1 for none. */
static Py_ssize_t
find_keyword(const kobs_call *call, PyObject *name)
{
    Py_ssize_t count = call->keywords == NULL ? 0 : PyTuple_GET_SIZE(call->keywords);

    for (Py_ssize_t index = 0; index < count; index++) {
        if (same(PyTuple_GET_ITEM(call->keywords, index), name)) {
            return index;
        }
    }
    return -1;
}

/* The parameter that a keyword is for; -1 where it is one for `**kwargs`. */
static Py_ssize_t
find_parameter(const kobs_parameters *parameters, PyObject *keyword)
{
    Py_ssize_t count = PyTuple_GET_SIZE(parameters->names);

    for (Py_ssize_t index = parameters->positional_only; index < count; index++) {
        if (same(PyTuple_GET_ITEM(parameters->names, index), keyword)) {
            return index;
        }
    }
    return -1;
}

/* A parameter's default (a new reference); NULL for none. */
static PyObject *
default_of(const kobs_parameters *parameters, Py_ssize_t index)
{
    if (parameters->function == NULL) {
        return NULL;
    }
    if (index < parameters->positional) {
        PyObject *defaults = PyFunction_GET_DEFAULTS(parameters->function);
        if (defaults == NULL) {
            return NULL;
        }
        index -= parameters->positional - PyTuple_GET_SIZE(defaults);
        return index >= 0 ? Py_NewRef(PyTuple_GET_ITEM(defaults, index)) : NULL;
    }
    PyObject *defaults = PyFunction_GET_KW_DEFAULTS(parameters->function), *found = NULL;
    if (defaults != NULL) {
        (void)kobs_dict_item(defaults, PyTuple_GET_ITEM(parameters->names, index), &found);
    }
    return found;
}

/* Whether a parameter has a default; nothing that is wrong with that is raised. */
static bool
has_default(const kobs_parameters *parameters, Py_ssize_t index)
{
    PyObject *found = default_of(parameters, index);

    if (found == NULL) {
        PyErr_Clear();
        return false;
    }
    Py_DECREF(found);
    return true;
}

static PyObject *
argument(const kobs_call *call, Py_ssize_t index)
{
    const kobs_parameters *parameters = &call->observed->parameters;

    if (index < call->count && index < parameters->positional) {
        return Py_NewRef(call->args[index]);
    }
    PyObject *name = PyTuple_GET_ITEM(parameters->names, index);
    if (call->keywords != NULL && index >= parameters->positional_only) {
        Py_ssize_t at = find_keyword(call, name);
        if (at >= 0) {
            return Py_NewRef(call->args[call->count + at]);
        }
    }
    PyObject *otherwise = default_of(parameters, index);
    if (otherwise == NULL && !PyErr_Occurred()) {
        PyErr_Format(PyExc_LookupError, "the call has no argument %R", name);
    }
    return otherwise;
}

static PyObject *
varargs(const kobs_call *call, Py_ssize_t from)
{
    Py_ssize_t first = call->observed->parameters.positional + from;
    Py_ssize_t count = call->count > first ? call->count - first : 0;
    PyObject *made = PyTuple_New(count);

    for (Py_ssize_t index = 0; made != NULL && index < count; index++) {
        PyTuple_SET_ITEM(made, index, Py_NewRef(call->args[first + index]));
    }
    return made;
}

static PyObject *
varkw(const kobs_call *call)
{
    Py_ssize_t count = call->keywords == NULL ? 0 : PyTuple_GET_SIZE(call->keywords);
    PyObject *made = PyDict_New();

    for (Py_ssize_t index = 0; made != NULL && index < count; index++) {
        PyObject *keyword = PyTuple_GET_ITEM(call->keywords, index);
        if (find_parameter(&call->observed->parameters, keyword) < 0
            && PyDict_SetItem(made, keyword, call->args[call->count + index]) < 0) {
            Py_CLEAR(made);
        }
    }
    return made;
}

bool
kobs_parameters_fit_anew(const kobs_call *call)
{
    const kobs_parameters *parameters = &call->observed->parameters;
    Py_ssize_t names = PyTuple_GET_SIZE(parameters->names), positional = parameters->positional;
    Py_ssize_t keywords = call->keywords == NULL ? 0 : PyTuple_GET_SIZE(call->keywords);

    if (call->count > positional && parameters->varargs == NULL) {
        return false;
    }
    if (keywords == 0 && names == positional && call->count >= positional) {
        return true;
    }
    for (Py_ssize_t index = 0; index < keywords; index++) {
        Py_ssize_t at = find_parameter(parameters, PyTuple_GET_ITEM(call->keywords, index));
        if (at < 0 ? parameters->varkw == NULL : at < positional && at < call->count) {
            return false;
        }
    }
    for (Py_ssize_t index = call->count < positional ? call->count : positional; index < names;
         index++) {
        bool given = index >= parameters->positional_only && keywords > 0
                     && find_keyword(call, PyTuple_GET_ITEM(parameters->names, index)) >= 0;
        if (!given && !has_default(parameters, index)) {
            return false;
        }
    }
    return true;
}

PyObject *
kobs_arguments(const kobs_call *call)
{
    const kobs_parameters *parameters = &call->observed->parameters;
    PyObject *made = PyDict_New(), *value;
    Py_ssize_t count = PyTuple_GET_SIZE(parameters->names);

    for (Py_ssize_t index = 0; made != NULL && index < count; index++) {
        value = argument(call, index);
        if (value == NULL
            || PyDict_SetItem(made, PyTuple_GET_ITEM(parameters->names, index), value) < 0) {
            Py_CLEAR(made);
        }
        Py_XDECREF(value);
    }
    if (made != NULL && parameters->varargs != NULL) {
        value = varargs(call, 0);
        if (value == NULL || PyDict_SetItem(made, parameters->varargs, value) < 0) {
            Py_CLEAR(made);
        }
        Py_XDECREF(value);
    }
    if (made != NULL && parameters->varkw != NULL) {
        value = varkw(call);
        if (value == NULL || PyDict_SetItem(made, parameters->varkw, value) < 0) {
            Py_CLEAR(made);
        }
        Py_XDECREF(value);
    }
    return made;
}

int
kobs_parameters_init(kobs_parameters *parameters, PyObject *description)
{
    PyObject *names, *varargs, *varkw, *function;

    if (!PyArg_ParseTuple(description, "O!nnOOO:parameters", &PyTuple_Type, &names,
                          &parameters->positional, &parameters->positional_only, &varargs, &varkw,
                          &function)) {
        return -1;
    }
    if (parameters->positional < 0 || parameters->positional > PyTuple_GET_SIZE(names)
        || parameters->positional_only < 0
        || parameters->positional_only > parameters->positional
        || (function != Py_None && !PyFunction_Check(function))) {
        PyErr_Format(PyExc_ValueError, "%R are no parameters", description);
        return -1;
    }
    parameters->names = Py_NewRef(names);
    parameters->exact = PyTuple_GET_SIZE(names) == parameters->positional
        ? parameters->positional : -1;
    parameters->varargs = varargs == Py_None ? NULL : Py_NewRef(varargs);
    parameters->varkw = varkw == Py_None ? NULL : Py_NewRef(varkw);
    parameters->function = function == Py_None ? NULL : Py_NewRef(function);
    return 0;
}

void
kobs_parameters_clear(kobs_parameters *parameters)
{
    Py_CLEAR(parameters->names);
    Py_CLEAR(parameters->varargs);
    Py_CLEAR(parameters->varkw);
    Py_CLEAR(parameters->function);
}

int
kobs_parameters_visit(kobs_parameters *parameters, visitproc visit, void *arg)
{
    Py_VISIT(parameters->function);
    return 0;
}

/* -- values ---------------------------------------------------------------------------------- */

static PyObject *
extra(const kobs_node *node, const kobs_call *call)
{
    Py_ssize_t at = call->observed->parameters.positional + node->index;

    if (at < call->count) {
        return Py_NewRef(call->args[at]);
    }
    if (node->count > 0) {
        return kobs_node_value(&node->children[0], call);
    }
    PyErr_SetString(PyExc_IndexError, "tuple index out of range");
    return NULL;
}

static PyObject *
keyword(const kobs_node *node, const kobs_call *call)
{
    Py_ssize_t at = find_keyword(call, node->object);

    if (at >= 0) {
        return Py_NewRef(call->args[call->count + at]);
    }
    if (node->count > 0) {
        return kobs_node_value(&node->children[0], call);
    }
    PyErr_SetObject(PyExc_KeyError, node->object);
    return NULL;
}

/* Most are dropped at once: then the same object is used for the next call. */
static PyObject *
elapsed(const kobs_node *node, const kobs_call *call)
{
    if (node->index == 0) {
        return PyLong_FromUnsignedLongLong(call->elapsed_ns);
    }
    double value = (double)call->elapsed_ns / (double)node->index;
#if !KOBS_FREE_THREADED
    observed_object *observed = call->observed;
    PyObject *kept = observed->elapsed;
    if (kept != NULL && Py_REFCNT(kept) == 1) {
        ((PyFloatObject *)kept)->ob_fval = value;
        return Py_NewRef(kept);
    }
    kept = PyFloat_FromDouble(value);
    Py_XSETREF(observed->elapsed, Py_XNewRef(kept));
    return kept;
#else
    return PyFloat_FromDouble(value);
#endif
}

static PyObject *
call_with(const kobs_node *node, const kobs_call *call)
{
    PyObject *values[MAX_CHILDREN], *made = NULL;
    Py_ssize_t count = 0;

    while (count < node->count) {
        if ((values[count] = kobs_node_value(&node->children[count], call)) == NULL) {
            break;
        }
        count++;
    }
    if (count == node->count) {
        made = PyObject_Vectorcall(node->object, values, (size_t)count, NULL);
    }
    while (count > 0) {
        Py_DECREF(values[--count]);
    }
    return made;
}

/* The path as Python's `reach` in kobs/observe/extractors.py goes it. */
static PyObject *
reach(const kobs_node *node, const kobs_call *call)
{
    PyObject *value = kobs_node_value(&node->children[0], call);

    if (value == NULL) {
        return NULL;
    }
    for (Py_ssize_t index = 0; value != NULL && index < PyTuple_GET_SIZE(node->object); index++) {
        PyObject *step = PyTuple_GET_ITEM(node->object, index);
        PyObject *next = PyLong_CheckExact(step) ? PyObject_GetItem(value, step)
                                                 : PyObject_GetAttr(value, step);
        Py_SETREF(value, next);
    }
    if (value == NULL
        && (PyErr_ExceptionMatches(PyExc_AttributeError)
            || PyErr_ExceptionMatches(PyExc_LookupError)
            || PyErr_ExceptionMatches(PyExc_TypeError))) {
        PyErr_Clear();
        return kobs_node_value(&node->children[1], call);
    }
    return value;
}

static PyObject *
of_child(const kobs_node *node, const kobs_call *call)
{
    PyObject *value = kobs_node_value(&node->children[0], call), *made = NULL;
    Py_ssize_t length;

    if (value == NULL) {
        return NULL;
    }
    switch (node->kind) {
    case NODE_ATTRIBUTE:
        made = PyObject_GetAttr(value, node->object);
        break;
    case NODE_ITEM:
        made = PyObject_GetItem(value, node->object);
        break;
    case NODE_LENGTH:
        length = PyObject_Size(value);
        if (length < 0 && PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            length = 0;
        }
        made = length < 0 ? NULL : PyLong_FromSsize_t(length);
        break;
    case NODE_ERRNO:
        if (PyObject_TypeCheck(value, (PyTypeObject *)PyExc_OSError)) {
            made = kobs_attribute(value, "errno");
        }
        if (!PyErr_Occurred() && (made == NULL || !PyLong_Check(made))) {
            Py_XSETREF(made, PyLong_FromLong(0));
        }
        break;
    default:
        Py_UNREACHABLE();
    }
    Py_DECREF(value);
    return made;
}

static PyObject *
dict_of(const kobs_node *node, const kobs_call *call)
{
    PyObject *made = PyDict_New();

    for (Py_ssize_t index = 0; made != NULL && index < node->count; index++) {
        PyObject *value = kobs_node_value(&node->children[index], call);
        if (value == NULL
            || PyDict_SetItem(made, PyTuple_GET_ITEM(node->object, index), value) < 0) {
            Py_CLEAR(made);
        }
        Py_XDECREF(value);
    }
    return made;
}

/* elapsed_ns >= limit_ms * 1000000 */
static PyObject *
slower(const kobs_node *node, const kobs_call *call)
{
    PyObject *limit = kobs_node_value(&node->children[0], call), *made = NULL;

    if (limit == NULL) {
        return NULL;
    }
    int beyond = 1;
    long long whole = PyLong_CheckExact(limit) ? PyLong_AsLongLongAndOverflow(limit, &beyond) : 0;
    if (PyFloat_CheckExact(limit)) {
        made = PyBool_FromLong((double)call->elapsed_ns >= PyFloat_AS_DOUBLE(limit) * 1e6);
    }
    else if (beyond == 0 && whole < INT64_MAX / 1000000) {
        made = PyBool_FromLong(whole < 0 || call->elapsed_ns >= (uint64_t)whole * 1000000u);
    }
    else {
        PyObject *factor = PyLong_FromLong(1000000);
        PyObject *wanted = factor == NULL ? NULL : PyNumber_Multiply(limit, factor);
        PyObject *ran = wanted == NULL ? NULL : PyLong_FromUnsignedLongLong(call->elapsed_ns);
        made = ran == NULL ? NULL : PyObject_RichCompare(ran, wanted, Py_GE);
        Py_XDECREF(factor);
        Py_XDECREF(wanted);
        Py_XDECREF(ran);
    }
    Py_DECREF(limit);
    return made;
}

static PyObject *
all_true(const kobs_node *node, const kobs_call *call)
{
    for (Py_ssize_t index = 0; index < node->count; index++) {
        PyObject *value = kobs_node_value(&node->children[index], call);
        int truth = value == NULL ? -1 : PyObject_IsTrue(value);
        Py_XDECREF(value);
        if (truth <= 0) {
            return truth < 0 ? NULL : Py_NewRef(Py_False);
        }
    }
    return Py_NewRef(Py_True);
}

PyObject *
kobs_node_value(const kobs_node *node, const kobs_call *call)
{
    switch (node->kind) {
    case NODE_CONSTANT:
        return Py_NewRef(node->object);
    case NODE_PARAMETER:
        return argument(call, node->index);
    case NODE_VARARGS:
        return varargs(call, node->index);
    case NODE_VARKW:
        return varkw(call);
    case NODE_EXTRA:
        return extra(node, call);
    case NODE_KEYWORD:
        return keyword(node, call);
    case NODE_RESULT:
        return Py_NewRef(call->result == NULL ? Py_None : call->result);
    case NODE_ERROR:
        return Py_NewRef(call->error == NULL ? Py_None : call->error);
    case NODE_ELAPSED:
        return elapsed(node, call);
    case NODE_CALL:
        return call_with(node, call);
    case NODE_REACH:
        return reach(node, call);
    case NODE_DICT:
        return dict_of(node, call);
    case NODE_SLOWER:
        return slower(node, call);
    case NODE_ALL:
        return all_true(node, call);
    case NODE_ATTRIBUTE:
    case NODE_ITEM:
    case NODE_LENGTH:
    case NODE_ERRNO:
        return of_child(node, call);
    }
    Py_UNREACHABLE();
}
