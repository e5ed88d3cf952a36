/* Compact JSON of small mappings, as `json.dumps(..., separators=(",", ":"))` writes it. What is
 * not as plain as that (nested values, odd floats, other types, no room) is left to Python. */

#include "core.h"

#include <float.h>

typedef struct {
    char *at, *end;
} text;

static bool
put(text *to, const char *data, size_t length)
{
    if ((size_t)(to->end - to->at) < length) {
        return false;
    }
    memcpy(to->at, data, length);
    to->at += length;
    return true;
}

static bool
put_string(text *to, PyObject *value)
{
    if (!PyUnicode_CheckExact(value) || !PyUnicode_IS_COMPACT_ASCII(value)) {
        return false;
    }
    const char *data = (const char *)PyUnicode_DATA(value);
    size_t length = (size_t)PyUnicode_GET_LENGTH(value);
    if ((size_t)(to->end - to->at) < length + 2) {
        return false;
    }
    char *at = to->at;
    *at++ = '"';
    for (size_t index = 0; index < length; index++) {
        char each = data[index];
        if (each < ' ' || each == '"' || each == '\\' || each == 127) {
            return false;
        }
        *at++ = each;
    }
    *at++ = '"';
    to->at = at;
    return true;
}

static bool
put_integer(text *to, PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    char digits[24], *start = digits + sizeof(digits);
    unsigned long long rest = number < 0 ? 0ull - (unsigned long long)number
                                         : (unsigned long long)number;

    if (overflow) {
        return false;
    }
    do {
        *--start = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (number < 0) {
        *--start = '-';
    }
    return put(to, start, (size_t)(digits + sizeof(digits) - start));
}

static bool
put_value(text *to, PyObject *value)
{
    if (value == Py_None) {
        return put(to, "null", 4);
    }
    if (value == Py_True) {
        return put(to, "true", 4);
    }
    if (value == Py_False) {
        return put(to, "false", 5);
    }
    if (PyLong_CheckExact(value)) {
        return put_integer(to, value);
    }
    if (PyFloat_CheckExact(value)) {
        double number = PyFloat_AS_DOUBLE(value);
        if (!(number >= -DBL_MAX && number <= DBL_MAX)) {
            return false;
        }
        char *digits = PyOS_double_to_string(number, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
        if (digits == NULL) {
            PyErr_Clear();
            return false;
        }
        bool done = put(to, digits, strlen(digits));
        PyMem_Free(digits);
        return done;
    }
    return put_string(to, value);
}

static bool
put_pair(text *to, PyObject *key, PyObject *value)
{
    return (to->at[-1] == '{' || put(to, ",", 1)) && put_string(to, key) && put(to, ":", 1)
           && put_value(to, value);
}

static bool
finish(text *to, uint8_t *at)
{
    if (!put(to, "}", 1)) {
        return false;
    }
    at[0] = (uint8_t)(to->at - (char *)at - 1);
    memset(to->at, 0, (size_t)(to->end - to->at));
    return true;
}

bool
kobs_json_write(PyObject *mapping, size_t size, uint8_t *at)
{
    text to = {(char *)at + 1, (char *)at + 1 + size};
    Py_ssize_t position = 0;
    PyObject *key, *value;

    if (!PyDict_CheckExact(mapping) || !put(&to, "{", 1)) {
        return false;
    }
    bool fits = true;
    KOBS_LOCK(mapping) /* what is put runs no code, which could let go of that */
    while (fits && PyDict_Next(mapping, &position, &key, &value)) {
        fits = put_pair(&to, key, value);
    }
    KOBS_UNLOCK()
    return fits && finish(&to, at);
}

bool
kobs_json_write_pairs(PyObject *const *keys, PyObject *const *values, int count, size_t size,
                      uint8_t *at)
{
    text to = {(char *)at + 1, (char *)at + 1 + size};

    if (!put(&to, "{", 1)) {
        return false;
    }
    for (int index = 0; index < count; index++) {
        if (!put_pair(&to, keys[index], values[index])) {
            return false;
        }
    }
    return finish(&to, at);
}
