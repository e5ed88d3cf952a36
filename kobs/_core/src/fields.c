/* Fields of payloads: from a Python value to bytes. The Python twin is kobs/fields.py. */

#include "fields.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "integers are written by their low bytes: the Python core is for this machine"
#endif

int
kobs_refuse_range(void)
{
    PyErr_SetString(PyExc_ValueError, "out of range");
    return -1;
}

int
kobs_unsigned_anew(PyObject *value, uint64_t most, uint64_t *to)
{
    PyObject *number = PyLong_Check(value) ? Py_NewRef(value) : PyNumber_Index(value);
    if (number == NULL) {
        return -1;
    }
    *to = PyLong_AsUnsignedLongLong(number);
    Py_DECREF(number);
    if (*to == (uint64_t)-1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
        return kobs_refuse_range();
    }
    return *to > most ? kobs_refuse_range() : 0;
}

/* What is neither just a string nor just an int: a subclass, an enumeration's member. */
int
kobs_write_identifier_anew(PyObject *value, ring_object *ring, uint64_t *to)
{
    if (PyUnicode_Check(value)) {
        PyObject *text = PyObject_Str(value);
        if (text == NULL) {
            return -1;
        }
        int64_t id = kobs_intern(ring, text);
        Py_DECREF(text);
        *to = (uint64_t)id | IDENTIFIER_IS_STRING;
        return id < 0 ? -1 : 0;
    }
    if (PyBool_Check(value) || !PyIndex_Check(value)) {
        PyErr_Format(PyExc_TypeError, "expected an int or str, got %s", Py_TYPE(value)->tp_name);
        return -1;
    }
    return kobs_unsigned(value, IDENTIFIER_IS_STRING - 1, to);
}

int
kobs_signed(PyObject *value, unsigned bits, int64_t *to)
{
    int64_t most = (int64_t)((1ull << (bits - 1)) - 1), least = -most - 1;

    if (!PyLong_Check(value) || !kobs_small_int(value, to)) {
        PyObject *number = PyLong_Check(value) ? Py_NewRef(value) : PyNumber_Index(value);
        if (number == NULL) {
            return -1;
        }
        *to = PyLong_AsLongLong(number);
        Py_DECREF(number);
        if (*to == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    return *to < least || *to > most ? kobs_refuse_range() : 0;
}

/* How much of `data` to keep of at most `size` bytes, on a character's boundary. */
static void
cut(const char **data, Py_ssize_t *length, Py_ssize_t size, bool keeps_tail)
{
    const char *text = *data;

    if (keeps_tail) {
        Py_ssize_t start = *length - size;
        while (start < *length && (text[start] & 0xC0) == 0x80) {
            start++;
        }
        *data = text + start;
        *length -= start;
    }
    else {
        while (size > 0 && (text[size] & 0xC0) == 0x80) {
            size--;
        }
        *length = size;
    }
}

int
kobs_write_text(const kobs_field *field, PyObject *value, uint8_t *at, uint8_t *flags)
{
    PyObject *encoded = NULL;
    Py_ssize_t length;
    const char *data;

    if (!PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "expected a str, got %s", Py_TYPE(value)->tp_name);
        return -1;
    }
    if (PyUnicode_IS_COMPACT_ASCII(value)) {
        data = (const char *)PyUnicode_DATA(value);
        length = PyUnicode_GET_LENGTH(value);
    }
    else {
        encoded = PyUnicode_AsEncodedString(value, "utf-8", "surrogateescape");
        if (encoded == NULL && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
            PyErr_Clear();
            encoded = PyUnicode_AsEncodedString(value, "utf-8", "backslashreplace");
        }
        if (encoded == NULL) {
            return -1;
        }
        data = PyBytes_AS_STRING(encoded);
        length = PyBytes_GET_SIZE(encoded);
    }
    if (length > field->size) {
        cut(&data, &length, field->size, field->keeps_tail);
        *flags |= KOBS_FLAG_TRUNCATED;
    }
    at[0] = (uint8_t)length;
    memcpy(at + 1, data, (size_t)length);
    memset(at + 1 + length, 0, (size_t)(field->size - length));
    Py_XDECREF(encoded);
    return 0;
}

/* `json_bytes(mapping, size)`: bytes, in a tuple if something was left out. */
int
kobs_write_json(const kobs_field *field, PyObject *value, uint8_t *at, uint8_t *flags)
{
    PyObject *made, *size, *bytes;
    int truth = PyObject_IsTrue(value);

    if (truth < 0) {
        return -1;
    }
    if (truth == 0) {
        at[0] = 2;
        memset(at + 1, 0, field->size);
        memcpy(at + 1, "{}", 2);
        return 0;
    }
    if (kobs_json_write(value, field->size, at)) {
        return 0;
    }
    size = PyLong_FromLong(field->size);
    if (size == NULL) {
        return -1;
    }
    made = PyObject_CallFunctionObjArgs(field->extra, value, size, NULL);
    Py_DECREF(size);
    if (made == NULL) {
        return -1;
    }
    bytes = made;
    if (PyTuple_Check(made) && PyTuple_GET_SIZE(made) == 1) {
        bytes = PyTuple_GET_ITEM(made, 0);
        *flags |= KOBS_FLAG_TRUNCATED;
    }
    if (!PyBytes_Check(bytes) || PyBytes_GET_SIZE(bytes) > field->size) {
        Py_DECREF(made);
        PyErr_SetString(PyExc_TypeError, "expected a mapping");
        return -1;
    }
    Py_ssize_t length = PyBytes_GET_SIZE(bytes);
    at[0] = (uint8_t)length;
    memcpy(at + 1, PyBytes_AS_STRING(bytes), (size_t)length);
    memset(at + 1 + length, 0, (size_t)(field->size - length));
    Py_DECREF(made);
    return 0;
}

int
kobs_field_init(kobs_field *field, PyObject *description)
{
    static const struct {
        const char *name;
        kobs_kind kind;
    } kinds[] = {
        {"unsigned", KIND_UNSIGNED}, {"signed", KIND_SIGNED}, {"f64", KIND_FLOAT},
        {"bool", KIND_BOOL}, {"name", KIND_NAME}, {"identifier", KIND_IDENTIFIER},
        {"text", KIND_TEXT}, {"text tail", KIND_TEXT}, {"json", KIND_JSON}, {"enum", KIND_ENUM},
    };
    PyObject *name, *otherwise, *extra;
    const char *kind;
    int has_default;
    unsigned short offset, size;

    if (!PyArg_ParseTuple(description, "UsHHpOO:field", &name, &kind, &offset, &size, &has_default,
                          &otherwise, &extra)) {
        return -1;
    }
    for (size_t index = 0; index < sizeof(kinds) / sizeof(kinds[0]); index++) {
        if (strcmp(kind, kinds[index].name) == 0) {
            size_t end = offset + size + (kinds[index].kind == KIND_TEXT
                                          || kinds[index].kind == KIND_JSON);
            if (end > KOBS_PAYLOAD_SIZE || size == 0) {
                break;
            }
            field->kind = kinds[index].kind;
            field->keeps_tail = strcmp(kind, "text tail") == 0;
            field->offset = offset;
            field->size = size;
            field->name = Py_NewRef(name);
            PyUnicode_InternInPlace(&field->name);
            field->otherwise = has_default ? Py_NewRef(otherwise) : NULL;
            field->extra = Py_NewRef(extra);
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "field %R: kind %s at %u, %u bytes, is not known to this core",
                 name, kind, offset, size);
    return -1;
}

void
kobs_field_clear(kobs_field *field)
{
    Py_CLEAR(field->name);
    Py_CLEAR(field->otherwise);
    Py_CLEAR(field->extra);
}
