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

static inline bool
is_among(const kobs_numbers *numbers, uint64_t number)
{
    if (numbers->count < 0) {
        return true;
    }
    for (Py_ssize_t each = 0; each < numbers->count; each++) {
        if (numbers->numbers[each] == number) {
            return true;
        }
    }
    return false;
}

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

static int
type_matches(condition_object *self, const kobs_type *type)
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

static int
name_matches(condition_object *self, kobs_scan *scan, const kobs_type *type, const uint8_t *slot)
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

static inline uint64_t
load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static bool
numbers_match(const condition_object *self, const uint64_t *slot)
{
    uint64_t ids = load(slot + 6);

    return is_among(&self->pids, (uint32_t)ids) && is_among(&self->tids, ids >> 32)
           && is_among(&self->chains, load(slot + 2));
}

static inline bool
header_matches(const condition_object *self, const uint64_t *slot, unsigned severity,
               unsigned category)
{
    if (severity < self->severity || !(self->categories >> category & 1)) {
        return false;
    }
    if (self->windowed && (load(slot + 1) < self->since || load(slot + 1) > self->until)) {
        return false;
    }
    return !self->numbered || numbers_match(self, slot);
}

/* -- scanning -------------------------------------------------------------------------------- */

static bool
make_room(kobs_scan *scan)
{
    size_t room = scan->kept_room < 4096 ? 4096 : 2 * scan->kept_room;
    uint64_t *grown = PyMem_RawRealloc(scan->kept, room * sizeof(uint64_t));

    if (grown == NULL) {
        PyErr_NoMemory();
        return false;
    }
    scan->kept = grown;
    scan->kept_room = room;
    return true;
}

static inline bool
count_event(kobs_scan *scan, const uint64_t *slot, uint8_t level)
{
    if (scan->levels[level]++ == 0) {
        scan->level_order[scan->level_count++] = level;
    }
    return (!scan->by_pid || kobs_tally_add(&scan->pids, (uint32_t)slot[6]))
           && (!scan->by_type || kobs_tally_add(&scan->types, kobs_slot_type(slot)));
}

uint64_t
kobs_scan_matching(const kobs_scan *scan)
{
    uint64_t count = 0;

    for (unsigned each = 0; each < scan->level_count; each++) {
        count += scan->levels[scan->level_order[each]];
    }
    return count;
}

/* A float that need not be aligned, of words that may change meanwhile. */
static inline double
load_float(const uint64_t *slot, unsigned offset)
{
    unsigned word = offset / 8, shift = offset % 8 * 8;
    uint64_t bits = load(slot + word) >> shift;
    double value;

    if (shift != 0 && word + 1 < KOBS_SLOT_WORDS) {
        bits |= load(slot + word + 1) << (64 - shift);
    }
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline bool
overwritten(const uint64_t *slot, uint64_t ticket)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return load(slot) != kobs_finished(ticket);
}

/* The conditions that are not in the header: 1, 0, -1 with an exception set. */
static inline int
rest_matches(condition_object *self, kobs_scan *scan, const kobs_type *type, double duration,
             const uint64_t *words)
{
    int found = type_matches(self, type);

    if (found > 0 && self->timed) {
        found = type->durations != NULL && duration >= self->slower;
    }
    if (found > 0 && self->names != NULL) {
        found = name_matches(self, scan, type, (const uint8_t *)words);
    }
    return found;
}

static inline int
scan_slot(condition_object *self, kobs_scan *scan, const uint64_t *slot, unsigned lane,
          uint64_t ticket, bool live)
{
    uint64_t own[KOBS_SLOT_WORDS], *words = own;
    uint64_t kind = load(slot + 7);
    unsigned severity = kind >> 16 & 15, category = kind >> 20 & 15;
    const kobs_type *type = kobs_type_of(self->types, (uint16_t)kind);

    if (type == NULL || severity >= self->types->severities
        || category >= self->types->categories) {
        if (type == NULL && PyErr_Occurred()) {
            return -1;
        }
        scan->undecoded += !live || !overwritten(slot, ticket);
        return 0;
    }
    if (!header_matches(self, slot, severity, category)) {
        scan->seen += !live || !overwritten(slot, ticket);
        return 0;
    }
    /* What else is needed is copied, and looked at once it is known to be of one event. */
    const kobs_column *timing = scan->durations || self->timed ? type->durations : NULL;
    bool keep = scan->kept_count < scan->keep;
    double duration = timing != NULL ? load_float(slot, timing->offset) : 0.0;
    unsigned last = keep || self->names != NULL ? type->words : 0;
    if (keep) {
        if (scan->kept_words + KOBS_SLOT_WORDS + 2 > scan->kept_room && !make_room(scan)) {
            return -1;
        }
        words = scan->kept + scan->kept_words + 2;
    }
    for (unsigned word = 0; word < last; word++) {
        words[word] = load(slot + word);
    }
    words[6] = load(slot + 6);
    words[7] = kind;
    if (live && overwritten(slot, ticket)) {
        return 0;
    }
    scan->seen++;
    if (timing != NULL) {
        if (timing->kind != KIND_FLOAT || !timing->known) {
            int found = type_matches(self, type);
            scan->given_up |= found > 0;
            return found < 0 ? -1 : 0;
        }
        duration = type->factor == 1.0 ? duration : duration * type->factor;
    }
    if (self->deeper) {
        int found = rest_matches(self, scan, type, duration, words);
        if (found <= 0) {
            return found;
        }
    }
    if (!count_event(scan, words, (uint8_t)(kind >> 16))) {
        return -1;
    }
    if (scan->durations && timing != NULL && !kobs_sample_add(&scan->sample, duration)) {
        PyErr_NoMemory();
        return -1;
    }
    if (keep) {
        words[-2] = type->words | (uint64_t)lane << 32;
        words[-1] = ticket;
        scan->kept_words += 2 + type->words;
        scan->kept_count++;
    }
    return 0;
}

int
kobs_scan_slot(condition_object *self, kobs_scan *scan, const uint64_t *slot, unsigned lane,
               uint64_t ticket, bool live)
{
    return scan_slot(self, scan, slot, lane, ticket, live);
}

typedef struct {
    const kobs_slot *slots;
    uint64_t mask, at, head, timestamp_ns;
    kobs_lane *lane;
} place;

/* Move on to the next finished slot; false where there is none, or an unfinished one is before
 * it. */
static inline bool
settle(place *place)
{
    while (place->at < place->head) {
        const uint64_t *slot = (const uint64_t *)&place->slots[place->at & place->mask];
        uint64_t stamp = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
        if (stamp == kobs_finished(place->at)) {
            place->timestamp_ns = load(slot + 1);
            return true;
        }
        uint64_t newest = (stamp >> 1) - 1;
        if (stamp < 2 || newest <= place->at || (newest & place->mask) != (place->at & place->mask)) {
            return false;
        }
        uint64_t head = atomic_load_explicit(&place->lane->head->value, memory_order_acquire);
        uint64_t oldest = head > place->mask ? head - place->mask - 1 : 0;
        place->at = oldest > place->at ? oldest : place->at + 1;
    }
    return false;
}

int
kobs_scan_ring(condition_object *self, kobs_scan *scan, kobs_ring *ring,
               const uint64_t start[KOBS_LANES])
{
    place places[KOBS_LANES], *waiting[KOBS_LANES];
    unsigned count = 0;

    for (unsigned number = 0; number < KOBS_LANES; number++) {
        kobs_lane *lane = &ring->lanes[number];
        uint64_t head = kobs_head(ring, number), slots = lane->mask + 1, at = lane->first_ticket;

        at = start[number] > at ? start[number] : at;
        places[number] = (place){
            .slots = ring->first[number].slots, .mask = lane->mask, .head = head, .lane = lane,
            .at = head > slots && head - slots > at ? head - slots : at,
        };
        if (settle(&places[number])) {
            waiting[count++] = &places[number];
        }
    }
    while (count > 0) {
        unsigned next = count == 2 && waiting[1]->timestamp_ns < waiting[0]->timestamp_ns;
        place from = *waiting[next];
        /* As long as this lane is the one whose turn it is; of two at once the first. */
        uint64_t until = count == 2 ? waiting[1 - next]->timestamp_ns : UINT64_MAX;
        bool more;
        do {
            const uint64_t *slot = (const uint64_t *)&from.slots[from.at & from.mask];
            if (scan_slot(self, scan, slot, from.lane->number, from.at, true) < 0) {
                return -1;
            }
            from.at++;
            more = settle(&from);
        } while (more && (from.timestamp_ns < until || (next == 0 && from.timestamp_ns == until)));
        *waiting[next] = from;
        if (!more) {
            waiting[0] = waiting[1 - next];
            count--;
        }
    }
    return 0;
}

void
kobs_scan_free(kobs_scan *scan)
{
    kobs_tally_free(&scan->pids);
    kobs_tally_free(&scan->types);
    kobs_sample_free(&scan->sample);
    PyMem_RawFree(scan->kept);
    scan->kept = NULL;
}
