#define _GNU_SOURCE
#include "ids.h"

#include <pthread.h>
#include <sys/random.h>

#include "clock.h"

_Thread_local uint64_t kobs_id_state __attribute__((tls_model("initial-exec")));

static void
forget_state(void)
{
    kobs_id_state = 0; /* else a child would mint what its parent mints */
}

__attribute__((constructor)) static void
at_load(void)
{
    pthread_atfork(NULL, NULL, forget_state);
}

uint64_t
kobs_seed_ids(void)
{
    uint64_t seed;

    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed)) {
        seed = kobs_monotonic() ^ (uint64_t)(uintptr_t)&seed << 20; /* early at boot */
    }
    return seed | 1;
}
