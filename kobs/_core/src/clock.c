#define _GNU_SOURCE
#include "clock.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Thread_local uint32_t known_id;

static void
forget_id(void)
{
    known_id = 0; /* in the child's only thread, which has another id now */
}

__attribute__((constructor)) static void
at_load(void)
{
    pthread_atfork(NULL, NULL, forget_id);
}

uint32_t
kobs_thread_id(void)
{
    if (known_id == 0) {
        known_id = (uint32_t)syscall(SYS_gettid);
    }
    return known_id;
}
