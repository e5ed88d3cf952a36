/* `SpanEncoder`: which slots make a span, and which of them are left to Python. */

#include "otlp_spans.h"

/* -- slots ------------------------------------------------------------------------------------ */

static int
tell(PyObject *otherwise, PyObject *slot)
{
    PyObject *done = PyObject_CallOneArg(otherwise, slot);

    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static inline const uint64_t *
words_of(PyObject *slot)
{
    return (const uint64_t *)PyBytes_AS_STRING(PyTuple_GET_ITEM(slot, 2));
}

/* Note by which event a span began. -1 with an exception set. */
static int
note_span(encoder_object *self, PyObject *event, PyObject *slot)
{
    PyObject *span = PyLong_FromUnsignedLongLong(words_of(slot)[4]);
    int done = span == NULL ? -1 : PyDict_SetItem(self->by_span, span, event);

    Py_XDECREF(span);
    return done;
}

/* Make `by_span`: the first time that something was sent or received. -1 with an exception set. */
static int
note_spans(encoder_object *self)
{
    PyObject *event, *slot;
    Py_ssize_t at = 0;

    if (self->by_span != NULL) {
        return 0;
    }
    if ((self->by_span = PyDict_New()) == NULL) {
        return -1;
    }
    while (PyDict_Next(self->open, &at, &event, &slot)) {
        if (note_span(self, event, slot) < 0) {
            Py_CLEAR(self->by_span);
            return -1;
        }
    }
    return 0;
}

/* Forget a begin, and give its slot and that of its details or NULL (new references): 1, 0 where it
 * is not known, -1 with an exception set. */
static int
take_open(encoder_object *self, uint64_t event, PyObject **slot, PyObject **detail)
{
    PyObject *key = PyLong_FromUnsignedLongLong(event), *span = NULL;
    int found = key == NULL ? -1 : kobs_dict_item(self->open, key, slot);

    *detail = NULL;
    if (found > 0 && PyDict_GET_SIZE(self->details) > 0) {
        int known = kobs_dict_item(self->details, key, detail);
        if (known < 0 || (known > 0 && PyDict_DelItem(self->details, key) < 0)) {
            Py_CLEAR(*slot);
            Py_CLEAR(*detail);
            found = -1;
        }
    }
    if (found > 0
        && (PyDict_DelItem(self->open, key) < 0
            || (self->by_span != NULL
                && (span = PyLong_FromUnsignedLongLong(words_of(*slot)[4])) == NULL))) {
        Py_CLEAR(*slot);
        Py_CLEAR(*detail);
        found = -1;
    }
    if (span != NULL && PyDict_DelItem(self->by_span, span) < 0) {
        PyErr_Clear(); /* a later span has the same id */
    }
    Py_XDECREF(span);
    Py_XDECREF(key);
    return found;
}

/* Let Python know the begin of a span that turns out not to be plain. */
static int
hand_over(encoder_object *self, uint64_t event, PyObject *otherwise)
{
    PyObject *slot, *detail;
    int found = take_open(self, event, &slot, &detail);

    if (found > 0) {
        found = tell(otherwise, slot);
        if (found == 0 && detail != NULL) {
            found = tell(otherwise, detail);
        }
        Py_DECREF(slot);
        Py_XDECREF(detail);
    }
    return found < 0 ? -1 : 0;
}

/* Keep the details of a span that is known here, where there are no more of them than a scope, a
 * provider and flags: 1, 0 where they are left to Python, -1 with an exception set. */
static int
take_detail(encoder_object *self, const work *now, PyObject *slot, const uint64_t *words)
{
    const uint8_t *at = (const uint8_t *)words;
    uint32_t scope;

    if (!now->details_known || words[7] >> 32 != 0 || words[7] >> 24 & KOBS_FLAG_TRUNCATED
        || at[now->detailed.rest] != 2) {
        return 0;
    }
    memcpy(&scope, at + now->detailed.scope, 4);
    PyObject *key = PyLong_FromUnsignedLongLong(words[3]);
    int done = key == NULL || scope == 0 ? 0 : PyDict_Contains(self->open, key);
    if (done > 0) {
        done = PyDict_Contains(self->details, key);
        done = done < 0 ? -1 : !done; /* of two the later counts: Python's to say */
    }
    if (done > 0 && PyDict_SetItem(self->details, key, slot) < 0) {
        done = -1;
    }
    Py_XDECREF(key);
    return key == NULL ? -1 : done;
}

/* Where the spans of a scope go; NULL where there are too many scopes. */
static scope_spans *
spans_of(work *now, uint32_t scope)
{
    for (int each = 0; each < now->scopes; each++) {
        if (now->spans[each].scope == scope) {
            return &now->spans[each];
        }
    }
    if (now->scopes == KOBS_SCOPES) {
        return NULL;
    }
    now->spans[now->scopes].scope = scope;
    return &now->spans[now->scopes++];
}

/* Write a span, unless it was exported before. */
static int
encode(encoder_object *self, work *now, PyObject *began, const uint64_t *words, PyObject *detail,
       const trace *of, bool before)
{
    uint32_t scope = 0;

    if (detail != NULL) {
        memcpy(&scope, (const char *)words_of(detail) + now->detailed.scope, 4);
    }
    scope_spans *to = spans_of(now, scope);
    if (to == NULL) {
        return LEFT;
    }
    size_t at = to->out.at == NULL ? 0 : (size_t)(to->out.at - to->out.start);
    int done = kobs_otlp_span(self, now, &to->out, words_of(began), words,
                              detail == NULL ? NULL : words_of(detail), of);
    if (done == DONE && before) {
        to->out.at = to->out.start + at;
    }
    else if (done == DONE) {
        to->count++;
    }
    return done;
}

static int
hand_over_span(encoder_object *self, uint64_t span, PyObject *otherwise)
{
    PyObject *key = PyLong_FromUnsignedLongLong(span), *event = NULL;
    int found = key == NULL || note_spans(self) < 0 ? -1
                                                    : kobs_dict_item(self->by_span, key, &event);

    Py_XDECREF(key);
    if (found > 0) {
        uint64_t number = PyLong_AsUnsignedLongLong(event);
        Py_DECREF(event);
        return PyErr_Occurred() ? -1 : hand_over(self, number, otherwise);
    }
    return found;
}

static int
take_began(encoder_object *self, PyObject *slot, unsigned lane, uint64_t ticket,
           PyObject *otherwise)
{
    if (PyDict_GET_SIZE(self->open) >= self->most) {
        return tell(otherwise, slot);
    }
    PyObject *event = PyLong_FromUnsignedLongLong(kobs_slot_id(self->types, lane, ticket));
    int done = event == NULL ? -1 : PyDict_SetItem(self->open, event, slot);
    if (done == 0 && self->by_span != NULL) {
        done = note_span(self, event, slot);
    }
    Py_XDECREF(event);
    return done;
}

static int
take_ended(encoder_object *self, work *now, PyObject *slot, const uint64_t *words, unsigned lane,
           uint64_t ticket, PyObject *otherwise)
{
    PyObject *began, *detail;
    int found = take_open(self, words[3], &began, &detail), done = LEFT;
    trace of;

    if (found <= 0) {
        return found < 0 ? -1 : tell(otherwise, slot);
    }
    if (words[2] == 0) {
        done = DONE; /* of no trace */
    }
    else if ((done = kobs_otlp_trace(self, words[2], &of)) == DONE) {
        uint8_t flags = 255;
        if (detail != NULL) {
            flags = ((const uint8_t *)words_of(detail))[now->detailed.trace_flags];
        }
        if (flags != 255) {
            of.flags = flags;
            of.exported = flags & 1;
        }
        if (!of.exported) {
            now->unsampled += ticket >= now->before[lane];
        }
        else {
            done = encode(self, now, began, words, detail, &of, ticket < now->before[lane]);
        }
        Py_XDECREF(of.state);
    }
    if (done == LEFT) {
        done = tell(otherwise, began);
        if (done == 0 && detail != NULL) {
            done = tell(otherwise, detail);
        }
        done = done < 0 ? -1 : tell(otherwise, slot);
    }
    Py_XDECREF(detail);
    Py_DECREF(began);
    return done < 0 ? -1 : 0;
}

static int
take_slot(encoder_object *self, work *now, PyObject *slot, PyObject *otherwise)
{
    unsigned lane;
    uint64_t ticket;
    const uint64_t *words = kobs_raw_slot(slot, &lane, &ticket);

    if (words == NULL) {
        return -1;
    }
    uint16_t type = kobs_slot_type(words);
    now->last_ns = words[1] > now->last_ns ? words[1] : now->last_ns;
    if (type == self->began_id && now->known && lane < KOBS_LANES && words[7] >> 32 == 0) {
        return take_began(self, slot, lane, ticket, otherwise);
    }
    if (type == self->ended_id && lane < KOBS_LANES) {
        return take_ended(self, now, slot, words, lane, ticket, otherwise);
    }
    if (type == self->detailed_id) {
        int done = take_detail(self, now, slot, words);
        if (done != 0) {
            return done < 0 ? -1 : 0;
        }
    }
    if (type >= self->first_id && type <= self->last_id) {
        return hand_over(self, words[3], otherwise) < 0 ? -1 : tell(otherwise, slot);
    }
    if (words[5] != 0) { /* the span that receives what was sent has a link of it */
        return hand_over_span(self, words[4], otherwise) < 0 ? -1 : tell(otherwise, slot);
    }
    return 0;
}

/* -- from Python ------------------------------------------------------------------------------ */

PyDoc_STRVAR(take_doc,
             "take(slots, before, clocks, otherwise) -> ([(scope, spans, count)], unsampled, last_ns)"
             "\n\nThe plain spans that ended in these slots, as fields of `ScopeSpans`, and the id of "
             "the scope's string, 0 for kobs's own. `before`: a "
             "ticket a lane; what ended before it was exported. `clocks`: one or two of (monotonic "
             "ns, wall time minus it). `otherwise(slot)` is called for what is left to Python. "
             "`last_ns`: the newest time of a slot.");

static int
take_clocks(work *now, PyObject *clocks)
{
    Py_ssize_t count = PyTuple_Check(clocks) ? PyTuple_GET_SIZE(clocks) : 0;

    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, "clocks: one or two pairs were expected");
        return -1;
    }
    for (Py_ssize_t each = 0; each < count; each++) {
        long long monotonic, offset;
        PyObject *pair = PyTuple_GET_ITEM(clocks, each);
        if (!PyTuple_Check(pair) || !PyArg_ParseTuple(pair, "LL:clocks", &monotonic, &offset)) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_TypeError, "clocks: pairs were expected");
            }
            return -1;
        }
        now->monotonic[each] = monotonic;
        now->offset[each] = offset;
    }
    now->clocks = (int)count;
    return 0;
}

static PyObject *
give(const work *now)
{
    PyObject *found = PyList_New(0);

    for (int each = 0; found != NULL && each < now->scopes; each++) {
        const scope_spans *spans = &now->spans[each];
        if (spans->count == 0) {
            continue;
        }
        PyObject *one = Py_BuildValue("(Iy#n)", spans->scope, spans->out.start,
                                      (Py_ssize_t)(spans->out.at - spans->out.start), spans->count);
        if (one == NULL || PyList_Append(found, one) < 0) {
            Py_CLEAR(found);
        }
        Py_XDECREF(one);
    }
    return found == NULL ? NULL
                         : Py_BuildValue("(NnK)", found, now->unsampled,
                                         (unsigned long long)now->last_ns);
}

static PyObject *
take(encoder_object *self, PyObject *args)
{
    PyObject *given, *clocks, *otherwise, *made = NULL;
    unsigned long long before[KOBS_LANES];
    work now = {0};

    if (!PyArg_ParseTuple(args, "O!(KK)OO:take", &PyList_Type, &given, &before[0], &before[1],
                          &clocks, &otherwise)
        || take_clocks(&now, clocks) < 0) {
        return NULL;
    }
    now.before[0] = before[0];
    now.before[1] = before[1];
    now.known = kobs_otlp_layout(self, &now);
    if (PyErr_Occurred()) {
        return NULL;
    }
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(given); index++) {
        PyObject *slot = kobs_list_item(given, index);
        int done = slot == NULL ? -1 : take_slot(self, &now, slot, otherwise);
        Py_XDECREF(slot);
        if (done < 0) {
            goto end;
        }
    }
    made = give(&now);
end:
    for (int each = 0; each < now.scopes; each++) {
        PyMem_Free(now.spans[each].out.start);
    }
    return made;
}

static PyObject *
encoder_take(encoder_object *self, PyObject *args)
{
    PyObject *made;

    KOBS_LOCK(self->types)
    made = take(self, args);
    KOBS_UNLOCK()
    return made;
}

PyDoc_STRVAR(release_doc, "release() -> [RawSlot]\n\nThe begins and the details of the spans that are "
                          "open, which are forgotten here.");

static PyObject *
encoder_release(encoder_object *self, PyObject *Py_UNUSED(none))
{
    PyObject *found;

    KOBS_LOCK(self->types)
    found = PyDict_Values(self->open);
    PyObject *details = PyDict_Values(self->details);
    if (found != NULL && (details == NULL || PyList_SetSlice(found, PyList_GET_SIZE(found),
                                                             PyList_GET_SIZE(found), details) < 0)) {
        Py_CLEAR(found);
    }
    Py_XDECREF(details);
    PyDict_Clear(self->open);
    PyDict_Clear(self->details);
    Py_CLEAR(self->by_span);
    KOBS_UNLOCK()
    return found;
}

static PyObject *
encoder_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {
        "types", "trace_high", "pid", "type_ids", "kinds", "statuses", "syscall", "network",
        "adopted", "received", "remote", "most",
        NULL,
    };
    PyObject *types, *kinds, *statuses, *adopted, *received, *remote;
    unsigned long long trace_high;
    unsigned long pid;
    unsigned syscall, network;
    unsigned short began_id, ended_id, detailed_id, first_id, last_id;
    Py_ssize_t most;

    if (!PyArg_ParseTupleAndKeywords(
            args, keywords, "$OKk(HHHHH)O!O!IIO!O!O!n:SpanEncoder", names, &types, &trace_high, &pid,
            &began_id, &ended_id, &detailed_id, &first_id, &last_id, &PyDict_Type, &kinds, &PyDict_Type,
            &statuses, &syscall, &network, &PyDict_Type, &adopted, &PyDict_Type, &received,
            &PyDict_Type, &remote, &most)) {
        return NULL;
    }
    PyObject *module = PyType_GetModuleByDef(type, &kobs_module);
    core_state *state = module == NULL ? NULL : PyModule_GetState(module);
    if (state == NULL || !Py_IS_TYPE(types, state->types_type)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "types: expected Types");
        }
        return NULL;
    }
    encoder_object *self = (encoder_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->types = (types_object *)Py_NewRef(types);
    self->kinds = Py_NewRef(kinds);
    self->statuses = Py_NewRef(statuses);
    self->syscall = syscall;
    self->network = network;
    self->adopted = Py_NewRef(adopted);
    self->received = Py_NewRef(received);
    self->remote = Py_NewRef(remote);
    self->open = PyDict_New();
    self->details = PyDict_New();
    self->trace_high = trace_high;
    self->pid = (uint32_t)pid;
    self->began_id = began_id;
    self->ended_id = ended_id;
    self->detailed_id = detailed_id;
    self->first_id = first_id;
    self->last_id = last_id;
    self->most = most;
    if (self->open == NULL || self->details == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
encoder_traverse(encoder_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->types);
    Py_VISIT(self->open);
    Py_VISIT(self->details);
    Py_VISIT(self->by_span);
    Py_VISIT(self->adopted);
    Py_VISIT(self->received);
    Py_VISIT(self->remote);
    Py_VISIT(self->kinds);
    Py_VISIT(self->statuses);
    return 0;
}

static void
encoder_dealloc(encoder_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->types);
    Py_XDECREF(self->open);
    Py_XDECREF(self->details);
    Py_XDECREF(self->by_span);
    Py_XDECREF(self->adopted);
    Py_XDECREF(self->received);
    Py_XDECREF(self->remote);
    Py_XDECREF(self->kinds);
    Py_XDECREF(self->statuses);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"take", (PyCFunction)encoder_take, METH_VARARGS, take_doc},
    {"release", (PyCFunction)encoder_release, METH_NOARGS, release_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Plain spans as OTLP, straight from their two slots.\n\n"
                "`type_ids`: of SpanBegan, SpanEnded, SpanDetailed, and the first and last of the types that "
                "spans are made of. `kinds` and `statuses`: their numbers by name, of those that "
                "are plain. `syscall` and `network`: those categories. `adopted`: "
                "{chain: (trace id, flags, exported, tracestate)}; `received`: {event: ...} of what "
                "received something; `remote`: {span id: ...}; all three "
                "are looked at, not changed. `most`: open spans that are remembered."},
    {Py_tp_new, encoder_new},
    {Py_tp_dealloc, encoder_dealloc},
    {Py_tp_traverse, encoder_traverse},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.SpanEncoder",
    .basicsize = sizeof(encoder_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
kobs_add_span_encoder(PyObject *module)
{
    return kobs_add_type(module, &spec);
}
