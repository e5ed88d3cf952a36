/* What a scan asks of types and names, and how it counts. */

#include "scan.h"

/* -- tallies --------------------------------------------------------------------------------- */

bool
kobs_tally_grow(kobs_tally *tally)
{
    size_t room = tally->room == 0 ? 16 : 2 * tally->room;
    uint64_t *keys = PyMem_Malloc(2 * room * sizeof(uint64_t));
    uint32_t *index = PyMem_Calloc(4 * room, sizeof(uint32_t));

    if (keys == NULL || index == NULL) {
        PyMem_Free(keys);
        PyMem_Free(index);
        PyErr_NoMemory();
        return false;
    }
    if (tally->count > 0) {
        memcpy(keys, tally->keys, tally->count * sizeof(uint64_t));
        memcpy(keys + room, tally->counts, tally->count * sizeof(uint64_t));
    }
    PyMem_Free(tally->keys);
    PyMem_Free(tally->index);
    tally->keys = keys;
    tally->counts = keys + room;
    tally->index = index;
    tally->room = room;
    for (size_t each = 0; each < tally->count; each++) {
        index[kobs_tally_place(tally, keys[each])] = (uint32_t)each + 1;
    }
    return true;
}

void
kobs_tally_free(kobs_tally *tally)
{
    PyMem_Free(tally->keys);
    PyMem_Free(tally->index);
    *tally = (kobs_tally){0};
}

/* -- conditions ------------------------------------------------------------------------------ */

/* What is known of an index; NULL with an exception set where there is no memory to keep it. */
static uint8_t *
verdict_at(uint8_t **verdicts, size_t *room, size_t index)
{
    if (index >= *room) {
        size_t more = *room == 0 ? 64 : *room;
        while (more <= index) {
            more *= 2;
        }
        uint8_t *grown = PyMem_Realloc(*verdicts, more);
        if (grown == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        memset(grown + *room, 0, more - *room);
        *verdicts = grown;
        *room = more;
    }
    return *verdicts + index;
}

int
kobs_type_matches(condition_object *self, const kobs_type *type)
{
    if (self->type_names == NULL) {
        return 1;
    }
    uint8_t *known = verdict_at(&self->by_type, &self->type_room, type->index);
    if (known == NULL) {
        return -1;
    }
    if (*known == 0) {
        int found = PySet_Contains(self->type_names, type->name);
        if (found < 0) {
            return -1;
        }
        self->by_type[type->index] = found ? 1 : 2;
        return found;
    }
    return *known == 1;
}

/* Whether a name, which is let go of, is one of those that are looked for. */
static int
new_name_matches(condition_object *self, PyObject *name)
{
    int found = name == NULL ? -1 : PySet_Contains(self->names, name);

    Py_XDECREF(name);
    return found;
}

/* Strings that are not there (yet) are asked for again. */
static int
string_matches(condition_object *self, uint64_t id)
{
    static const uint64_t most = 1 << 20;

    if (id < self->name_room && self->by_name[id] != 0) {
        return self->by_name[id] == 1;
    }
    PyObject *name = PyObject_CallFunction(self->types->string, "K", (unsigned long long)id);
    if (name == NULL) {
        return -1;
    }
    bool there = PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "?") != 0;
    int found = new_name_matches(self, name);
    if (found >= 0 && id < most && there) {
        uint8_t *known = verdict_at(&self->by_name, &self->name_room, (size_t)id);
        if (known == NULL) {
            return -1;
        }
        *known = found ? 1 : 2;
    }
    return found;
}

int
kobs_name_matches(condition_object *self, kobs_scan *scan, const kobs_type *type,
                  const uint8_t *slot)
{
    const kobs_column *column = type->names;
    uint64_t number = 0;

    if (column == NULL) {
        return 0;
    }
    const uint8_t *at = slot + column->offset;
    switch (column->known ? column->kind : KIND_JSON) {
    case KIND_NAME:
        memcpy(&number, at, 4);
        return string_matches(self, number);
    case KIND_IDENTIFIER:
        memcpy(&number, at, 8);
        if (number >> 63) {
            return string_matches(self, number & ~(1ull << 63));
        }
        return new_name_matches(self, PyUnicode_FromFormat("%llu", (unsigned long long)number));
    case KIND_UNSIGNED:
        memcpy(&number, at, column->size);
        return new_name_matches(self, PyUnicode_FromFormat("%llu", (unsigned long long)number));
    case KIND_TEXT:
        number = at[0] < column->size ? at[0] : column->size;
        return new_name_matches(self, PyUnicode_DecodeUTF8((const char *)at + 1,
                                                           (Py_ssize_t)number, "surrogateescape"));
    default:
        scan->given_up = true;
        return 0;
    }
}
