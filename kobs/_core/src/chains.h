/* Which chains are kept. The Python twins are kobs/sampling.py and kobs/gate.py. */

#ifndef KOBS_CHAINS_H
#define KOBS_CHAINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The 64 bits of a chain's id, mixed: the finaliser of splitmix64. */
static inline uint64_t
kobs_spread(uint64_t bits)
{
    bits += 0x9E3779B97F4A7C15ull;
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9ull;
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBull;
    return bits ^ (bits >> 31);
}

/* Decisions that were taken: of so many chains, the oldest are forgotten. */
typedef struct {
    uint64_t *keys; /* 0: free */
    bool *kept;
    uint64_t *order;
    size_t room, mask, count, first;
} kobs_decisions;

/* Which decision was taken: 1, 0, -1 for none. */
int kobs_decision(const kobs_decisions *, uint64_t chain);

/* Remember one; false where there is no memory. */
bool kobs_remember(kobs_decisions *, uint64_t chain, bool kept);

void kobs_forget_decisions(kobs_decisions *);

/* Events of chains, in two generations: what is used moves to the young one; when that is full the
 * old one goes. */
typedef struct {
    struct kobs_chain {
        uint64_t key, count, generation;
    } *chains;
    size_t room, mask, young, old;
    uint64_t generation, limit, dropped;
} kobs_thinner;

/* Count an event of a chain; `*before` is how many there were. False where there is no memory. */
bool kobs_count_event(kobs_thinner *, uint64_t chain, uint64_t *before);

#endif
