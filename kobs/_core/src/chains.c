#include "chains.h"

#include <stdlib.h>
#include <string.h>

/* -- decisions ------------------------------------------------------------------------------- */

static size_t
place_of(const kobs_decisions *self, uint64_t chain)
{
    size_t at = (size_t)kobs_spread(chain) & self->mask;

    while (self->keys[at] != 0 && self->keys[at] != chain) {
        at = (at + 1) & self->mask;
    }
    return at;
}

int
kobs_decision(const kobs_decisions *self, uint64_t chain)
{
    if (self->keys == NULL) {
        return -1;
    }
    size_t at = place_of(self, chain);
    return self->keys[at] == 0 ? -1 : self->kept[at];
}

/* Take a chain out; those that had to give way to it move up. */
static void
take_out(kobs_decisions *self, uint64_t chain)
{
    size_t gap = place_of(self, chain), at = gap;

    if (self->keys[gap] == 0) {
        return;
    }
    for (;;) {
        at = (at + 1) & self->mask;
        if (self->keys[at] == 0) {
            break;
        }
        size_t wanted = (size_t)kobs_spread(self->keys[at]) & self->mask;
        if (((at - wanted) & self->mask) >= ((at - gap) & self->mask)) {
            self->keys[gap] = self->keys[at];
            self->kept[gap] = self->kept[at];
            gap = at;
        }
    }
    self->keys[gap] = 0;
}

bool
kobs_remember(kobs_decisions *self, uint64_t chain, bool kept)
{
    if (self->keys == NULL) {
        size_t size = 4;
        while (size < 2 * self->room) {
            size *= 2;
        }
        self->mask = size - 1;
        self->keys = calloc(size, sizeof(*self->keys));
        self->kept = calloc(size, sizeof(*self->kept));
        self->order = calloc(self->room, sizeof(*self->order));
        if (self->keys == NULL || self->kept == NULL || self->order == NULL) {
            kobs_forget_decisions(self);
            return false;
        }
    }
    if (self->count == self->room) {
        take_out(self, self->order[self->first]);
        self->first = (self->first + 1) % self->room;
        self->count--;
    }
    size_t at = place_of(self, chain);
    self->keys[at] = chain;
    self->kept[at] = kept;
    self->order[(self->first + self->count++) % self->room] = chain;
    return true;
}

void
kobs_forget_decisions(kobs_decisions *self)
{
    free(self->keys);
    free(self->kept);
    free(self->order);
    self->keys = NULL;
    self->kept = NULL;
    self->order = NULL;
    self->count = self->first = 0;
}

/* -- long chains ----------------------------------------------------------------------------- */

static struct kobs_chain *
chain_at(struct kobs_chain *chains, size_t mask, uint64_t chain)
{
    size_t at = (size_t)kobs_spread(chain) & mask;

    while (chains[at].key != 0 && chains[at].key != chain) {
        at = (at + 1) & mask;
    }
    return &chains[at];
}

/* Keep the chains of the generations from `oldest` on. */
static bool
keep_from(kobs_thinner *self, uint64_t oldest)
{
    struct kobs_chain *before = self->chains;
    struct kobs_chain *after = calloc(self->mask + 1, sizeof(*after));

    if (after == NULL) {
        return false;
    }
    for (size_t at = 0; before != NULL && at <= self->mask; at++) {
        if (before[at].key != 0 && before[at].generation >= oldest) {
            *chain_at(after, self->mask, before[at].key) = before[at];
        }
    }
    free(before);
    self->chains = after;
    return true;
}

bool
kobs_count_event(kobs_thinner *self, uint64_t chain, uint64_t *before)
{
    if (self->chains == NULL) {
        self->mask = 7;
        while (self->mask + 1 < 4 * self->room) {
            self->mask = 2 * self->mask + 1;
        }
        self->generation = 1;
        if (!keep_from(self, 0)) {
            return false;
        }
    }
    struct kobs_chain *known = chain_at(self->chains, self->mask, chain);
    if (known->key == 0 || known->generation != self->generation) {
        uint64_t count = known->count;
        if (known->key != 0) {
            self->old--;
            known->generation = self->generation;
        }
        if (self->young >= self->room) {
            if (!keep_from(self, self->generation)) {
                return false;
            }
            self->old = self->young;
            self->young = 0;
            self->generation++;
            known = chain_at(self->chains, self->mask, chain);
        }
        *known = (struct kobs_chain){chain, count, self->generation};
        self->young++;
    }
    *before = known->count++;
    return true;
}
