/* Which slots log records are made of: most are not, where a program makes spans. The Python twin is
 * `picked` in kobs/export/otlp_streams.py. */

#include "types.h"

enum { MOST_TYPES = 8 };

static bool
is_among(uint16_t type, const uint16_t *types, Py_ssize_t count)
{
    for (Py_ssize_t each = 0; each < count; each++) {
        if (types[each] == type) {
            return true;
        }
    }
    return false;
}

static Py_ssize_t
take_types(PyObject *given, uint16_t types[MOST_TYPES])
{
    Py_ssize_t count = PyTuple_GET_SIZE(given);

    if (count > MOST_TYPES) {
        PyErr_Format(PyExc_ValueError, "always: at most %d types", (int)MOST_TYPES);
        return -1;
    }
    for (Py_ssize_t each = 0; each < count; each++) {
        uint64_t number;
        if (kobs_unsigned(PyTuple_GET_ITEM(given, each), UINT16_MAX, &number) < 0) {
            return -1;
        }
        types[each] = (uint16_t)number;
    }
    return count;
}

PyObject *
kobs_pick_slots(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *slots, *always;
    unsigned severity;
    unsigned long long before[KOBS_LANES];
    uint16_t types[MOST_TYPES];

    if (!PyArg_ParseTuple(args, "O!I(KK)O!:pick_slots", &PyList_Type, &slots, &severity, &before[0],
                          &before[1], &PyTuple_Type, &always)) {
        return NULL;
    }
    Py_ssize_t count = take_types(always, types);
    PyObject *found = count < 0 ? NULL : PyList_New(0);
    for (Py_ssize_t index = 0; found != NULL && index < PyList_GET_SIZE(slots); index++) {
        unsigned lane = 0;
        uint64_t ticket = 0;
        PyObject *slot = kobs_list_item(slots, index);
        const uint64_t *words = slot == NULL ? NULL : kobs_raw_slot(slot, &lane, &ticket);
        if (words == NULL) {
            Py_CLEAR(found);
        }
        else if ((is_among(kobs_slot_type(words), types, count)
                  || ((words[7] >> 16 & 15) >= severity
                      && (lane >= KOBS_LANES || ticket >= before[lane])))
                 && PyList_Append(found, slot) < 0) {
            Py_CLEAR(found);
        }
        Py_XDECREF(slot);
    }
    return found;
}
