#include "scan.h"

/* -- what the header says -------------------------------------------------------------------- */

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
header_matches(const condition_object *self, const uint64_t *slot)
{
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

uint64_t
kobs_scan_matching(const kobs_scan *scan)
{
    uint64_t count = 0;

    for (unsigned each = 0; each < scan->level_count; each++) {
        count += scan->levels[scan->level_order[each]];
    }
    return count;
}

/* What changes with every event: a copy of it stays in registers. */
typedef struct {
    kobs_outlook out;
    kobs_values durations;
    uint64_t seen;
} progress;

static progress
begin(kobs_scan *scan)
{
    if (scan->outlooks == NULL) {
        scan->outlooks = scan->first;
    }
    return (progress){.out.type_id = UINT32_MAX, .durations = scan->sample.values};
}

static void
end(kobs_scan *scan, const progress *at)
{
    scan->sample.values = at->durations;
    scan->seen += at->seen;
}

static bool
look_out(condition_object *self, const kobs_scan *scan, uint16_t type_id, kobs_outlook *out)
{
    const kobs_type *type = kobs_type_of(self->types, type_id);

    *out = (kobs_outlook){.type_id = type_id, .type = type};
    if (type == NULL) {
        return !PyErr_Occurred();
    }
    int wanted = kobs_type_matches(self, type);
    const kobs_column *column = type->durations;
    out->wanted = wanted > 0 && (column != NULL || !self->timed);
    if (column != NULL && (scan->durations || self->timed)) {
        out->by_python = column->kind != KIND_FLOAT || !column->known;
        out->timed = !out->by_python;
        out->offset = column->offset;
        out->factor = type->factor;
    }
    out->plain = out->wanted && !out->by_python && !self->windowed && !self->numbered
                 && !self->timed && self->names == NULL && !scan->by_pid && !scan->by_type;
    return wanted >= 0;
}

/* Go on with events of another type. */
static bool
turn_to(condition_object *self, kobs_scan *scan, uint16_t type_id, kobs_outlook *out)
{
    kobs_outlook *known = &scan->outlooks[type_id % KOBS_OUTLOOKS];

    if ((known->type == NULL || known->type_id != type_id)
        && !look_out(self, scan, type_id, known)) {
        known->type = NULL;
        return false;
    }
    *out = *known;
    return true;
}

/* A duration, which need not be aligned, of words that may change meanwhile: who reads it asks
 * afterwards whether they did. */
static inline double
load_duration(const uint64_t *slot, const kobs_outlook *out)
{
    const uint8_t *at = (const uint8_t *)slot + out->offset;
    double value;

#if defined(__SANITIZE_THREAD__)
    unsigned word = out->offset / 8, shift = out->offset % 8;
    uint64_t two[2] = {load(slot + word), load(slot + word + (shift != 0))};
    memcpy(&value, (const uint8_t *)two + shift, sizeof(value));
    (void)at;
#else
    typedef double anywhere __attribute__((aligned(1), may_alias));
    value = *(const volatile anywhere *)at;
#endif
    return value * out->factor;
}

static inline bool
overwritten(const uint64_t *slot, uint64_t ticket)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return load(slot) != kobs_finished(ticket);
}

/* Look at a slot's header, and count it where that says no: whether it may match. */
static inline bool
may_match(const condition_object *self, kobs_scan *scan, progress *at, const uint64_t *slot,
          uint64_t ticket, bool live)
{
    unsigned level = load(slot + 7) >> 16 & 255;
    unsigned verdict = at->out.type == NULL ? KOBS_SENSELESS : self->levels[level];

    if (verdict == KOBS_WANTED && header_matches(self, slot)) {
        return true;
    }
    bool there = !live || !overwritten(slot, ticket);
    if (verdict == KOBS_SENSELESS) {
        scan->undecoded += there;
    }
    else {
        at->seen += there;
    }
    return false;
}

static inline void
count_level(kobs_scan *scan, uint8_t level)
{
    if (scan->levels[level]++ == 0) {
        scan->level_order[scan->level_count++] = level;
    }
}

/* Where the next slot that is kept goes, after two words; NULL with an exception set. */
static inline uint64_t *
room_for_slot(kobs_scan *scan)
{
    if (scan->kept_words + KOBS_SLOT_WORDS + 2 > scan->kept_room && !make_room(scan)) {
        return NULL;
    }
    return scan->kept + scan->kept_words + 2;
}

static inline void
keep_slot(kobs_scan *scan, uint64_t *words, unsigned count, unsigned lane, uint64_t ticket)
{
    words[-2] = count | (uint64_t)lane << 32 | (uint64_t)scan->source << 34;
    words[-1] = ticket;
    scan->kept_words += 2 + count;
    scan->kept_count++;
}

/* Copy words that may change meanwhile, and perhaps some that are behind them in the slot: who does
 * asks afterwards whether they did. */
static inline void
copy(uint64_t *to, const uint64_t *slot, unsigned count)
{
#if defined(__SANITIZE_THREAD__)
    for (unsigned word = 0; word < count; word++) {
        to[word] = load(slot + word);
    }
#else
    enum { FEW = 12 }; /* most payloads are as short: without a loop */
    typedef uint64_t two __attribute__((vector_size(16), aligned(8), may_alias));
    for (unsigned word = 0; word < FEW; word += 2) {
        *(two *)(to + word) = *(const volatile two *)(slot + word);
    }
    for (unsigned word = FEW; word < count; word += 2) {
        *(two *)(to + word) = *(const volatile two *)(slot + word);
    }
#endif
}

/* -1 with an exception set. */
__attribute__((always_inline)) static inline int
scan_slot(condition_object *self, kobs_scan *scan, progress *at, const uint64_t *slot,
          unsigned lane, uint64_t ticket, bool live)
{
    uint64_t own[KOBS_SLOT_WORDS], *words = own;
    uint64_t kind = load(slot + 7);
    kobs_outlook *out = &at->out;

    if ((uint16_t)kind != out->type_id && !turn_to(self, scan, (uint16_t)kind, out)) {
        return -1;
    }
    if (!may_match(self, scan, at, slot, ticket, live)) {
        return 0;
    }
    /* What else is needed is copied, and looked at once it is known to be of one event. */
    const kobs_type *type = out->type;
    bool keep = scan->kept_count < scan->keep;
    double duration = out->timed ? load_duration(slot, out) : 0.0;
    uint64_t pid = load(slot + 6);
    if (keep && (words = room_for_slot(scan)) == NULL) {
        return -1;
    }
    if (keep || self->names != NULL) {
        copy(words, slot, type->words);
    }
    if (live && overwritten(slot, ticket)) {
        return 0;
    }
    at->seen++;
    if (!out->wanted) {
        return 0;
    }
    if (out->by_python) {
        scan->given_up = true;
        return 0;
    }
    if (self->deeper) {
        if (self->timed && !(duration >= self->slower)) {
            return 0;
        }
        int found = self->names == NULL
                    || kobs_name_matches(self, scan, type, (const uint8_t *)words);
        if (found <= 0) {
            return found;
        }
    }
    count_level(scan, (uint8_t)(kind >> 16));
    if ((scan->by_pid && !kobs_tally_add(&scan->pids, (uint32_t)pid))
        || (scan->by_type
            && !kobs_tally_add(&scan->types, (uint16_t)kind | (uint64_t)scan->source << 16))) {
        return -1;
    }
    if (scan->durations && out->timed) {
        kobs_values_put(&at->durations, duration);
    }
    if (keep) {
        keep_slot(scan, words, type->words, lane, ticket);
    }
    return 0;
}

int
kobs_scan_slot(condition_object *self, kobs_scan *scan, const uint64_t *slot, unsigned lane,
               uint64_t ticket)
{
    if (scan->durations && !kobs_values_reserve(&scan->sample.values, 1)) {
        PyErr_NoMemory();
        return -1;
    }
    progress at = begin(scan);
    int done = scan_slot(self, scan, &at, slot, lane, ticket, false);
    end(scan, &at);
    if (at.seen > 0 && slot[1] > scan->last_ns) {
        scan->last_ns = slot[1];
    }
    return done;
}

typedef struct place {
    const kobs_slot *slots;
    uint64_t mask, at, head, timestamp_ns;
    kobs_lane *lane;
} place;

/* Move on to the next finished slot, past what is overwritten; false where there is none, or an
 * unfinished one is before it. */
static bool
skip(place *place)
{
    while (place->at < place->head) {
        const uint64_t *slot = (const uint64_t *)&place->slots[place->at & place->mask];
        uint64_t stamp = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
        if (stamp == kobs_finished(place->at)) {
            place->timestamp_ns = load(slot + 1);
            return true;
        }
        uint64_t newest = (stamp >> 1) - 1;
        if (stamp < 2 || newest <= place->at
            || (newest & place->mask) != (place->at & place->mask)) {
            return false;
        }
        uint64_t head = atomic_load_explicit(&place->lane->head->value, memory_order_acquire);
        uint64_t oldest = head > place->mask ? head - place->mask - 1 : 0;
        place->at = oldest > place->at ? oldest : place->at + 1;
    }
    return false;
}

static inline bool
settle(place *place)
{
    const uint64_t *slot = (const uint64_t *)&place->slots[place->at & place->mask];

    if (place->at < place->head
        && __atomic_load_n(slot, __ATOMIC_ACQUIRE) == kobs_finished(place->at)) {
        place->timestamp_ns = load(slot + 1);
        return true;
    }
    return skip(place);
}

/* Look at events of one type that lie behind one another, of whom nothing but the level matters;
 * the first of them is there. */
__attribute__((always_inline)) static inline bool
scan_plain(const condition_object *self, kobs_scan *scan, progress *at, place *place,
           uint64_t until, bool timed, bool keeps)
{
    const kobs_outlook out = at->out;
    kobs_values durations = at->durations;
    uint64_t first = place->at, run = place->mask + 1 - (first & place->mask), seen = 0;
    uint64_t last = place->head - first < run ? place->head : first + run;
    const uint64_t *slot = (const uint64_t *)&place->slots[first & place->mask];
    uint64_t ticket = first;
    bool done = true;

    for (; ticket < last; ticket++, slot += KOBS_SLOT_WORDS) {
        uint64_t stamp = __atomic_load_n(slot, __ATOMIC_ACQUIRE), kind = load(slot + 7);
        uint64_t *words = NULL;
        double duration = 0.0;
        if (stamp != kobs_finished(ticket) || (uint16_t)kind != out.type_id
            || load(slot + 1) > until) {
            break;
        }
        unsigned verdict = self->levels[kind >> 16 & 255];
        if (verdict != KOBS_WANTED) {
            bool there = load(slot) == stamp;
            seen += there && verdict == KOBS_OTHER;
            scan->undecoded += there && verdict == KOBS_SENSELESS;
            continue;
        }
        if (timed) {
            duration = load_duration(slot, &out);
        }
        if (keeps) {
            if (scan->kept_count == scan->keep) {
                break;
            }
            words = room_for_slot(scan);
            if (words == NULL) {
                done = false;
                break;
            }
            copy(words, slot, out.type->words);
        }
        if (overwritten(slot, ticket)) {
            continue;
        }
        seen++;
        count_level(scan, (uint8_t)(kind >> 16));
        if (timed) {
            kobs_values_put(&durations, duration);
        }
        if (keeps) {
            keep_slot(scan, words, out.type->words, place->lane->number, ticket);
        }
    }
    place->at = ticket;
    at->durations = durations;
    at->seen += seen;
    return done;
}

/* Look at the next events of a lane; false with an exception set. */
static bool
scan_some(condition_object *self, kobs_scan *scan, progress *at, place *place, uint64_t until)
{
    const uint64_t *slot = (const uint64_t *)&place->slots[place->at & place->mask];
    uint16_t type_id = (uint16_t)load(slot + 7);
    bool timed, keeps = scan->kept_count < scan->keep;

    if (type_id != at->out.type_id && !turn_to(self, scan, type_id, &at->out)) {
        return false;
    }
    if (!at->out.plain) {
        return scan_slot(self, scan, at, slot, place->lane->number, place->at++, true) == 0;
    }
    timed = scan->durations && at->out.timed;
    return timed ? keeps ? scan_plain(self, scan, at, place, until, true, true)
                         : scan_plain(self, scan, at, place, until, true, false)
                 : keeps ? scan_plain(self, scan, at, place, until, false, true)
                         : scan_plain(self, scan, at, place, until, false, false);
}

/* Look at the events of a lane as long as it is the one whose turn it is: those not after `until`.
 * 1 where there are more, 0, -1 with an exception set. */
static int
scan_lane(condition_object *self, kobs_scan *scan, progress *at, place *place, uint64_t until)
{
    bool more;

    do {
        if (!scan_some(self, scan, at, place, until)) {
            return -1;
        }
        more = settle(place);
    } while (more && place->timestamp_ns <= until);
    return more;
}

int
kobs_scan_ring(condition_object *self, kobs_scan *scan, kobs_ring *ring,
               const uint64_t start[KOBS_LANES])
{
    place places[KOBS_LANES], *waiting[KOBS_LANES];
    unsigned count = 0;
    uint64_t most = 0;
    int more = 0;

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
            most += head - places[number].at;
        }
    }
    if (scan->durations && !kobs_values_reserve(&scan->sample.values, most)) {
        PyErr_NoMemory();
        return -1;
    }
    progress at = begin(scan);
    while (count > 0 && more >= 0) {
        unsigned next = count == 2 && waiting[1]->timestamp_ns < waiting[0]->timestamp_ns;
        /* Of two at once the first lane's is first. */
        uint64_t until = count < 2 ? UINT64_MAX : waiting[1 - next]->timestamp_ns - next;
        more = scan_lane(self, scan, &at, waiting[next], until);
        if (more == 0) {
            waiting[0] = waiting[1 - next];
            count--;
        }
    }
    end(scan, &at);
    return more < 0 ? -1 : 0;
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
