/* From a Python value to the bytes of a field: what every event does, inline. */

#ifndef KOBS_FIELDS_H
#define KOBS_FIELDS_H

#include "core.h"

#define IDENTIFIER_IS_STRING (1ull << 63)

int kobs_refuse_range(void);
int kobs_write_identifier_anew(PyObject *value, ring_object *, uint64_t *to);
int kobs_signed(PyObject *value, unsigned bits, int64_t *to);
int kobs_write_text(const kobs_field *, PyObject *value, uint8_t *at, uint8_t *flags);
int kobs_write_json(const kobs_field *, PyObject *value, uint8_t *at, uint8_t *flags);

static inline int
kobs_write_identifier(PyObject *value, ring_object *ring, uint64_t *to)
{
    if (PyUnicode_CheckExact(value)) {
        int64_t id = kobs_intern(ring, value);
        *to = (uint64_t)id | IDENTIFIER_IS_STRING;
        return id < 0 ? -1 : 0;
    }
    if (PyLong_CheckExact(value)) {
        return kobs_unsigned(value, IDENTIFIER_IS_STRING - 1, to);
    }
    return kobs_write_identifier_anew(value, ring, to);
}

/* Write a value into a payload that has 8 bytes of room behind it: what follows the field there is
 * undefined until it is written, too. May set bits of `*flags`. -1 with an exception set if it does
 * not fit. */
static inline int
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
        memcpy(at, &number, 8); /* the next field overwrites what is too much */
        return 0;
    case KIND_SIGNED:
        if (kobs_signed(value, 8u * field->size, (int64_t *)&number) < 0) {
            return -1;
        }
        memcpy(at, &number, 8);
        return 0;
    case KIND_FLOAT:
        if (PyFloat_CheckExact(value)) {
            real = PyFloat_AS_DOUBLE(value);
        }
        else if (PyLong_CheckExact(value) && kobs_small_int(value, &id)) {
            real = (double)id;
        }
        else if ((real = PyFloat_AsDouble(value)) == -1.0 && PyErr_Occurred()) {
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
        if (kobs_write_identifier(value, ring, &number) < 0) {
            return -1;
        }
        memcpy(at, &number, 8);
        return 0;
    case KIND_TEXT:
        return kobs_write_text(field, value, at, flags);
    case KIND_JSON:
        return kobs_write_json(field, value, at, flags);
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

#endif
