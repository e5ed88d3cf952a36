/* `Types`: the payload types and strings of a recording. */

#include "types.h"

/* -- strings --------------------------------------------------------------------------------- */

static size_t
escaped(Py_UCS4 each, char *to)
{
    static const char digits[] = "0123456789abcdef";
    const char *word = NULL;

    switch (each) {
    case '"': word = "\\\""; break;
    case '\\': word = "\\\\"; break;
    case '\n': word = "\\n"; break;
    case '\r': word = "\\r"; break;
    case '\t': word = "\\t"; break;
    case '\f': word = "\\f"; break;
    case '\b': word = "\\b"; break;
    }
    if (word != NULL) {
        memcpy(to, word, 2);
        return 2;
    }
    if (each >= ' ' && each <= '~') {
        *to = (char)each;
        return 1;
    }
    if (each >= 0x10000) {
        each -= 0x10000;
        size_t first = escaped(0xD800 | (each >> 10), to);
        return first + escaped(0xDC00 | (each & 0x3FF), to + first);
    }
    to[0] = '\\';
    to[1] = 'u';
    for (int digit = 0; digit < 4; digit++) {
        to[2 + digit] = digits[each >> (12 - 4 * digit) & 15];
    }
    return 6;
}

PyObject *
kobs_json_text(PyObject *text)
{
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "expected a str, got %s", Py_TYPE(text)->tp_name);
        return NULL;
    }
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    PyObject *made = PyBytes_FromStringAndSize(NULL, 12 * length + 2);
    if (made == NULL) {
        return NULL;
    }
    char *start = PyBytes_AS_STRING(made), *at = start;
    int kind = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    *at++ = '"';
    for (Py_ssize_t index = 0; index < length; index++) {
        at += escaped(PyUnicode_READ(kind, data, index), at);
    }
    *at++ = '"';
    _PyBytes_Resize(&made, at - start);
    return made;
}

/* Strings that are not there (yet) are asked for again. */
PyObject *
kobs_string_unknown(types_object *self, uint64_t id)
{
    static const size_t most = 1 << 20;
    PyObject *number = PyLong_FromUnsignedLongLong(id);
    PyObject *text = number == NULL ? NULL : PyObject_CallOneArg(self->string, number);
    Py_XDECREF(number);
    PyObject *made = text == NULL ? NULL : kobs_json_text(text);
    Py_XDECREF(text);
    if (made == NULL) {
        return NULL;
    }
    if (id < self->string_room && self->strings[id] != NULL) {
        Py_DECREF(made); /* another thread, or a signal handler, asked meanwhile */
        return self->strings[id];
    }
    if (id >= most || strcmp(PyBytes_AS_STRING(made), "\"?\"") == 0) {
        Py_XSETREF(self->unkept, made);
        return made;
    }
    if (id >= self->string_room) {
        size_t room = 256;
        while (room <= id) {
            room *= 2;
        }
        PyObject **grown = PyMem_Calloc(room, sizeof(PyObject *));
        if (grown == NULL) {
            Py_DECREF(made);
            PyErr_NoMemory();
            return NULL;
        }
        if (self->strings != NULL) {
            memcpy(grown, self->strings, self->string_room * sizeof(PyObject *));
        }
        PyMem_Free(self->strings);
        self->strings = grown;
        self->string_room = room;
    }
    Py_XSETREF(self->strings[id], made);
    return made;
}

/* -- types ----------------------------------------------------------------------------------- */

static char *
keep_text(PyObject *text, size_t *length)
{
    char *kept = text == NULL ? NULL : PyMem_Calloc(1, (size_t)PyBytes_GET_SIZE(text) + KOBS_LABEL);

    if (kept != NULL) {
        *length = (size_t)PyBytes_GET_SIZE(text);
        memcpy(kept, PyBytes_AS_STRING(text), *length + 1);
    }
    else if (text != NULL) {
        PyErr_NoMemory();
    }
    Py_XDECREF(text);
    return kept;
}

/* `before`, then `text` as JSON, then `after`. */
static char *
label(const char *before, PyObject *text, const char *after, size_t *length)
{
    PyObject *quoted = kobs_json_text(text);
    PyObject *whole = quoted == NULL ? NULL
                                     : PyBytes_FromFormat("%s%s%s", before,
                                                          PyBytes_AS_STRING(quoted), after);
    Py_XDECREF(quoted);
    return keep_text(whole, length);
}

static int
take_column(kobs_column *column, PyObject *described, bool first)
{
    static const struct {
        const char *name;
        kobs_kind kind;
    } kinds[] = {
        {"unsigned", KIND_UNSIGNED}, {"signed", KIND_SIGNED}, {"f64", KIND_FLOAT},
        {"bool", KIND_BOOL}, {"name", KIND_NAME}, {"identifier", KIND_IDENTIFIER},
        {"text", KIND_TEXT}, {"text tail", KIND_TEXT}, {"json", KIND_JSON}, {"enum", KIND_ENUM},
    };
    PyObject *name, *extra;
    const char *kind;
    unsigned short offset, size;

    if (!PyArg_ParseTuple(described, "UzHHO:column", &name, &kind, &offset, &size, &extra)) {
        return -1;
    }
    column->offset = (uint16_t)(KOBS_SLOT_HEADER_SIZE + offset);
    column->size = size;
    column->label = label(first ? "" : ",", name, ":", &column->label_length);
    if (column->label == NULL) {
        return -1;
    }
    for (size_t each = 0; kind != NULL && each < sizeof(kinds) / sizeof(kinds[0]); each++) {
        if (strcmp(kind, kinds[each].name) == 0) {
            column->kind = kinds[each].kind;
            bool counted = column->kind == KIND_TEXT || column->kind == KIND_JSON;
            column->known = offset + size + counted <= KOBS_PAYLOAD_SIZE && size > 0
                            && (counted || size <= 8);
        }
    }
    if (column->known && (column->kind == KIND_ENUM || column->kind == KIND_JSON)) {
        column->extra = Py_NewRef(extra);
    }
    return 0;
}

static void
free_type(kobs_type *type)
{
    for (Py_ssize_t index = 0; type->columns != NULL && index < type->count; index++) {
        kobs_column *column = &type->columns[index];
        PyMem_Free((char *)column->label);
        Py_XDECREF(column->extra);
        for (int value = 0; column->members != NULL && value < 256; value++) {
            Py_XDECREF(column->members[value]);
        }
        PyMem_Free(column->members);
    }
    PyMem_Free(type->columns);
    PyMem_Free((char *)type->label);
    Py_XDECREF(type->name);
    PyMem_Free(type);
}

/* A type from (name, size, columns, index of the name or -1, of the duration or -1, factor). */
static kobs_type *
make_type(uint16_t type_id, PyObject *described)
{
    PyObject *name, *columns;
    Py_ssize_t size, names, durations;
    double factor;

    if (!PyTuple_Check(described)
        || !PyArg_ParseTuple(described, "UnO!nnd:type", &name, &size, &PyTuple_Type, &columns,
                             &names, &durations, &factor)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "a type is described by a tuple");
        }
        return NULL;
    }
    kobs_type *made = PyMem_Calloc(1, sizeof(*made));
    if (made == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    made->type_id = type_id;
    made->known = size >= 0 && size <= KOBS_PAYLOAD_SIZE;
    made->words = made->known ? (unsigned)(KOBS_SLOT_HEADER_SIZE + size + 7) / 8 : KOBS_SLOT_WORDS;
    made->factor = factor;
    made->name = Py_NewRef(name);
    made->label = label(",\"type\":", name, ",\"timestamp_ns\":", &made->label_length);
    made->count = PyTuple_GET_SIZE(columns);
    made->columns = PyMem_Calloc((size_t)made->count + 1, sizeof(kobs_column));
    if (made->label == NULL || made->columns == NULL) {
        free_type(made);
        return PyErr_Occurred() ? NULL : (kobs_type *)PyErr_NoMemory();
    }
    for (Py_ssize_t index = 0; index < made->count; index++) {
        if (take_column(&made->columns[index], PyTuple_GET_ITEM(columns, index), index == 0) < 0) {
            free_type(made);
            return NULL;
        }
        made->known &= made->columns[index].known;
    }
    made->names = names >= 0 && names < made->count ? &made->columns[names] : NULL;
    made->durations = durations >= 0 && durations < made->count ? &made->columns[durations] : NULL;
    return made;
}

const kobs_type *
kobs_type_unknown(types_object *self, uint16_t type_id)
{
    PyObject *described = PyObject_CallFunction(self->find, "H", type_id);
    kobs_type **page = self->pages[type_id >> 8], *made;

    if (described == NULL || described == Py_None) {
        /* A declaration that makes no sense: events of it cannot be read, others can. */
        if (described == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
            PyErr_Clear();
        }
        Py_XDECREF(described);
        return NULL;
    }
    page = self->pages[type_id >> 8];
    if (page == NULL) {
        page = self->pages[type_id >> 8] = PyMem_Calloc(256, sizeof(kobs_type *));
    }
    made = page == NULL ? (kobs_type *)PyErr_NoMemory() : page[type_id & 255];
    if (page != NULL && made == NULL) {
        made = make_type(type_id, described);
        if (made != NULL) {
            made->index = self->type_count++;
            page[type_id & 255] = made;
        }
    }
    Py_DECREF(described);
    return made;
}

const uint64_t *
kobs_raw_slot(PyObject *slot, unsigned *lane, uint64_t *ticket)
{
    if (!PyTuple_Check(slot) || PyTuple_GET_SIZE(slot) != 3
        || !PyBytes_Check(PyTuple_GET_ITEM(slot, 2))
        || PyBytes_GET_SIZE(PyTuple_GET_ITEM(slot, 2)) != KOBS_SLOT_SIZE) {
        PyErr_Format(PyExc_TypeError, "expected a RawSlot, got %R", slot);
        return NULL;
    }
    uint64_t number;
    if (kobs_unsigned(PyTuple_GET_ITEM(slot, 0), 3, &number) < 0
        || kobs_unsigned(PyTuple_GET_ITEM(slot, 1), UINT64_MAX, ticket) < 0) {
        return NULL;
    }
    *lane = (unsigned)number;
    return (const uint64_t *)PyBytes_AS_STRING(PyTuple_GET_ITEM(slot, 2));
}

/* -- the Python type ------------------------------------------------------------------------- */

static int
take_names(PyObject *names, const char *before, const char *after, kobs_word to[16],
           unsigned *count)
{
    Py_ssize_t given = PyTuple_GET_SIZE(names);

    if (given > 16) {
        PyErr_SetString(PyExc_ValueError, "more than four bits can tell");
        return -1;
    }
    for (Py_ssize_t each = 0; each < given; each++) {
        char *made = label(before, PyTuple_GET_ITEM(names, each), after, &to[each].length);
        if (made == NULL) {
            return -1;
        }
        bool fits = to[each].length <= sizeof(to[each].text);
        if (fits) {
            memcpy(to[each].text, made, to[each].length);
        }
        PyMem_Free(made);
        if (!fits) {
            PyErr_SetString(PyExc_ValueError, "a longer name than there is room for");
            return -1;
        }
    }
    *count = (unsigned)given;
    return 0;
}

static PyObject *
types_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"recording", "find", "string", "severities", "categories", NULL};
    PyObject *find, *string, *severities, *categories;
    unsigned long recording;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$kOOO!O!:Types", names, &recording, &find,
                                     &string, &PyTuple_Type, &severities, &PyTuple_Type,
                                     &categories)) {
        return NULL;
    }
    types_object *self = (types_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->recording = recording;
    self->find = Py_NewRef(find);
    self->string = Py_NewRef(string);
    if (take_names(severities, ",\"severity\":", ",\"category\":", self->levels,
                   &self->severities) < 0
        || take_names(categories, "", ",\"pid\":", self->groups, &self->categories) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
types_traverse(types_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->find);
    Py_VISIT(self->string);
    for (int page = 0; page < 256; page++) {
        for (int each = 0; self->pages[page] != NULL && each < 256; each++) {
            const kobs_type *type = self->pages[page][each];
            for (Py_ssize_t index = 0; type != NULL && index < type->count; index++) {
                Py_VISIT(type->columns[index].extra);
            }
        }
    }
    return 0;
}

static void
types_dealloc(types_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->find);
    Py_XDECREF(self->string);
    for (int page = 0; page < 256; page++) {
        for (int each = 0; self->pages[page] != NULL && each < 256; each++) {
            if (self->pages[page][each] != NULL) {
                free_type(self->pages[page][each]);
            }
        }
        PyMem_Free(self->pages[page]);
    }
    for (size_t id = 0; id < self->string_room; id++) {
        Py_XDECREF(self->strings[id]);
    }
    PyMem_Free(self->strings);
    Py_XDECREF(self->unkept);
    PyMem_RawFree(self->spare); /* a scan has no interpreter to ask */
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *
types_lines(types_object *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *found;

    KOBS_LOCK(self)
    found = kobs_types_lines(self, args, count);
    KOBS_UNLOCK()
    return found;
}

static PyMethodDef methods[] = {
    {"lines", (PyCFunction)(void (*)(void))types_lines, METH_FASTCALL, kobs_types_lines_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The payload types and strings of a recording.\n\n"
                "`find(type_id)` describes a type: (name, size, columns, index of the name or -1, "
                "index of the duration or -1, its factor to microseconds); a column is (name, kind "
                "or None, offset, size, extra)."},
    {Py_tp_new, types_new},
    {Py_tp_dealloc, types_dealloc},
    {Py_tp_traverse, types_traverse},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.Types",
    .basicsize = sizeof(types_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
kobs_add_types_type(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->types_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->types_type == NULL ? -1 : PyModule_AddType(module, state->types_type);
}
