/* Random 64-bit ids: span ids, the low half of trace ids. */

#ifndef KOBS_IDS_H
#define KOBS_IDS_H

#include <stdint.h>

extern _Thread_local uint64_t kobs_id_state __attribute__((tls_model("initial-exec")));

uint64_t kobs_seed_ids(void);

/* An id, never 0. SplitMix64 (Steele, Lea, Flood 2014), seeded by the kernel once a thread, and
 * anew in a forked child. */
static inline uint64_t
kobs_mint_id(void)
{
    uint64_t state = kobs_id_state;

    if (__builtin_expect(state == 0, 0)) {
        state = kobs_seed_ids();
    }
    kobs_id_state = state += 0x9e3779b97f4a7c15u;
    state = (state ^ state >> 30) * 0xbf58476d1ce4e5b9u;
    state = (state ^ state >> 27) * 0x94d049bb133111ebu;
    state ^= state >> 31;
    return state | (state == 0);
}

#endif
