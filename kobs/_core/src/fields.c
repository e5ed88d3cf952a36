/* Fields of payloads: from a Python value to bytes. The Python twin is kobs/fields.py. */

#include "core.h"

#define IDENTIFIER_IS_STRING (1ull << 63)

/* The value of an int that fits one machine word's worth of digits without a call. */
static inline bool
small_int(PyObject *value, int64_t *to)
{
#if PY_VERSION_HEX >= 0x030C0000
    if (PyUnstable_Long_IsCompact((PyLongObject *)value)) {
        *to = PyUnstable_Long_CompactValue((PyLongObject *)value);
        return true;
    }
#else
    Py_ssize_t size = Py_SIZE(value);
    if (size >= -1 && size <= 1) {
        *to = size * (int64_t)((PyLongObject *)value)->ob_digit[0];
        return true;
    }
#endif
    return false;
}

static int
refuse_range(void)
{
    PyErr_SetString(PyExc_ValueError, "out of range");
    return -1;
}

int
kobs_unsigned(PyObject *value, uint64_t most, uint64_t *to)
{
    int64_t small;

    if (PyLong_Check(value) && small_int(value, &small)) {
        if (small < 0 || (uint64_t)small > most) {
            return refuse_range();
        }
        *to = (uint64_t)small;
        return 0;
    }
    PyObject *number = PyLong_Check(value) ? Py_NewRef(value) : PyNumber_Index(value);
    if (number == NULL) {
        return -1;
    }
    *to = PyLong_AsUnsignedLongLong(number);
    Py_DECREF(number);
    if (*to == (uint64_t)-1 && PyErr_Occurred()) {
        return -1;
    }
    return *to > most ? refuse_range() : 0;
}

static int
signed_integer(PyObject *value, unsigned bits, int64_t *to)
{
    int64_t most = (int64_t)((1ull << (bits - 1)) - 1), least = -most - 1;

    if (!PyLong_Check(value) || !small_int(value, to)) {
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
    return *to < least || *to > most ? refuse_range() : 0;
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

static int
write_text(const kobs_field *field, PyObject *value, uint8_t *at, uint8_t *flags)
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
static int
write_json(const kobs_field *field, PyObject *value, uint8_t *at, uint8_t *flags)
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

static int
write_identifier(PyObject *value, ring_object *ring, uint64_t *to)
{
    if (PyUnicode_CheckExact(value)) {
        int64_t id = kobs_intern(ring, value);
        *to = (uint64_t)id | IDENTIFIER_IS_STRING;
        return id < 0 ? -1 : 0;
    }
    if (!PyLong_CheckExact(value)) {
        PyErr_Format(PyExc_TypeError, "expected an int or str, got %s", Py_TYPE(value)->tp_name);
        return -1;
    }
    return kobs_unsigned(value, IDENTIFIER_IS_STRING - 1, to);
}

int
kobs_field_write(const kobs_field *field, PyObject *value, ring_object *ring, uint8_t *payload,
                 uint8_t *flags)
{
    uint8_t *at = payload + field->offset;
    uint64_t number;
    int64_t id;
    double real;

    switch (field->kind) {
    case KIND_UNSIGNED:
        if (kobs_unsigned(value, UINT64_MAX >> (64 - 8 * field->size), &number) < 0) {
            return -1;
        }
        memcpy(at, &number, field->size); /* little-endian, as module.c makes sure */
        return 0;
    case KIND_SIGNED:
        if (signed_integer(value, 8u * field->size, (int64_t *)&number) < 0) {
            return -1;
        }
        memcpy(at, &number, field->size);
        return 0;
    case KIND_FLOAT:
        real = PyFloat_CheckExact(value) ? PyFloat_AS_DOUBLE(value) : PyFloat_AsDouble(value);
        if (real == -1.0 && PyErr_Occurred()) {
            return -1;
        }
        memcpy(at, &real, sizeof(real));
        return 0;
    case KIND_BOOL:
        if (value != Py_True && value != Py_False) {
            PyErr_SetString(PyExc_TypeError, "expected a bool");
            return -1;
        }
        *at = value == Py_True;
        return 0;
    case KIND_NAME:
        id = kobs_intern(ring, value);
        if (id < 0) {
            return -1;
        }
        memcpy(at, &id, 4);
        return 0;
    case KIND_IDENTIFIER:
        if (write_identifier(value, ring, &number) < 0) {
            return -1;
        }
        memcpy(at, &number, 8);
        return 0;
    case KIND_TEXT:
        return write_text(field, value, at, flags);
    case KIND_JSON:
        return write_json(field, value, at, flags);
    case KIND_ENUM:
        if ((PyObject *)Py_TYPE(value) != field->extra) {
            PyErr_SetString(PyExc_TypeError, "not a member of the enumeration");
            return -1;
        }
        if (kobs_unsigned(value, UINT8_MAX, &number) < 0) {
            return -1;
        }
        *at = (uint8_t)number;
        return 0;
    }
    Py_UNREACHABLE();
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
