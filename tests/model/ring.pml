/* The ring's protocol, for spin. docs/explanation/ring-model.md says what is modelled, how far, and
 * what is asserted; tools/model.sh runs it. One run by hand:
 *
 *     spin -a -DPRODUCERS=2 -DTICKETS=5 tests/model/ring.pml && gcc -O2 -o pan pan.c && ./pan
 *     spin -t -p -DPRODUCERS=2 -DTICKETS=5 tests/model/ring.pml    # replays what it found
 *
 * These break the protocol on purpose, one at a time, and pan must find it:
 *     PLAIN_HEAD      the ticket is read and then written, not added to in one step
 *     NO_CLAIM        the claim is a plain store, not a compare-and-swap
 *     WAIT            a producer waits for the one that writes the slot
 *     CLAIM_LATE      a word of the body can be seen before the claim can
 *     PUBLISH_EARLY   the finished stamp can be seen before a word of the body can
 *     NO_RECHECK      the reader does not look at the stamp after its copy
 *     LOOK_EARLY      the reader's second look comes before its copy is complete
 *     LOSE_ONE        the reader counts one loss, however many there were
 *     DELIVER_LATE    what the reader gave up is not behind its cursor
 */

#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef TICKETS
#define TICKETS 5 /* that the producers take in all, shared among them in any way */
#endif
#ifndef SLOTS
#define SLOTS 2 /* of a lane; a power of two */
#endif
#ifndef LANES
#define LANES 1
#endif
#ifndef DEATHS
#define DEATHS 1 /* a producer may stop for ever before any of its steps */
#endif

#define FINISHED(ticket) (((ticket) + 1) << 1)
#define WRITING(ticket) (FINISHED(ticket) | 1)
#define SLOT(ticket) ((ticket) & (SLOTS - 1))
#define MARK(ticket, lane) ((ticket) * LANES + (lane) + 1) /* what an event's words hold */

typedef Lane {
    byte head;
    byte stamp[SLOTS];
    byte body0[SLOTS];
    byte body1[SLOTS];
#ifdef CLAIM_LATE
    byte claim[SLOTS];
#endif
};

Lane ring[LANES];

/* What nobody in the protocol sees: for the assertions. Only what does not make two states of one:
 * a count of what was delivered, for instance, would. */
byte taken; /* tickets that producers had */
byte open;  /* of them: not published, not counted as contended, and their producers live */
byte ended; /* producers that ended, or died */
bit alive[PRODUCERS];
bit reader_done;

/* One step of a producer; or it dies just before. */
#if DEATHS
#define STEP(what) if :: what :: goto dead fi
#else
#define STEP(what) what
#endif

#define HERE ring[lane]

active [PRODUCERS] proctype Producer() {
    byte lane = 0, ticket = 0, seen = 0, steps = 0;
    bit holds = 0; /* it has a ticket that is neither published nor counted */

    /* Producers are alike: they come in the order of their numbers, which halves the states. */
    atomic { taken >= _pid -> alive[_pid] = 1 };
    do
    :: taken >= TICKETS -> break
    :: taken < TICKETS ->
#if LANES == 2
        if :: lane = 0 :: lane = 1 fi;
#endif
        /* The ticket: fetch and add. */
#ifdef PLAIN_HEAD
        STEP(ticket = HERE.head);
        d_step { HERE.head = ticket + 1; taken++; open++; holds = 1; steps++ }
#else
        d_step {
            if
            :: taken < TICKETS -> ticket = HERE.head; HERE.head++; taken++; open++; holds = 1
            :: else
            fi;
            steps++
        };
        if :: !holds -> goto next :: else fi;
#endif
        /* In C this look is a claim on the stamp that is expected; where that one is there, look and
         * claim are one step, which is one of the orders that are tried here. */
        STEP(d_step { seen = HERE.stamp[SLOT(ticket)]; steps++ });
#ifdef WAIT
        STEP(d_step { !(HERE.stamp[SLOT(ticket)] & 1) -> seen = HERE.stamp[SLOT(ticket)] });
#endif
        if
        :: (seen & 1) || seen >= FINISHED(ticket) -> goto give_up
        :: else
        fi;
        /* The claim: compare and swap. */
#ifdef NO_CLAIM
        STEP(HERE.stamp[SLOT(ticket)] = WRITING(ticket));
#elif defined(CLAIM_LATE)
        STEP(d_step {
            if
            :: HERE.stamp[SLOT(ticket)] == seen && !HERE.claim[SLOT(ticket)] ->
                HERE.claim[SLOT(ticket)] = 1; seen = 0
            :: else -> seen = 1
            fi
        });
        if :: seen -> goto give_up :: else fi;
        STEP(HERE.body0[SLOT(ticket)] = MARK(ticket, lane));
        STEP(d_step { HERE.stamp[SLOT(ticket)] = WRITING(ticket); HERE.claim[SLOT(ticket)] = 0 });
#else
        STEP(d_step {
            if
            :: HERE.stamp[SLOT(ticket)] == seen ->
                assert(seen < WRITING(ticket)); /* a slot's stamp never goes back */
                HERE.stamp[SLOT(ticket)] = WRITING(ticket);
                seen = 0
            :: else -> seen = 1
            fi;
            steps++
        });
        if :: seen -> goto give_up :: else fi;
#endif
        /* The body: its words, in any order. */
#ifdef CLAIM_LATE
        STEP(HERE.body1[SLOT(ticket)] = MARK(ticket, lane));
#elif defined(PUBLISH_EARLY)
        STEP(HERE.body0[SLOT(ticket)] = MARK(ticket, lane));
        STEP(HERE.stamp[SLOT(ticket)] = FINISHED(ticket));
        STEP(HERE.body1[SLOT(ticket)] = MARK(ticket, lane));
#else
        if
        :: d_step { HERE.body0[SLOT(ticket)] = MARK(ticket, lane); steps++ };
           STEP(d_step { HERE.body1[SLOT(ticket)] = MARK(ticket, lane); steps++ })
        :: d_step { HERE.body1[SLOT(ticket)] = MARK(ticket, lane); steps++ };
           STEP(d_step { HERE.body0[SLOT(ticket)] = MARK(ticket, lane); steps++ })
#if DEATHS
        :: goto dead
#endif
        fi;
#endif
        /* Published. */
        STEP(d_step {
#if !defined(NO_CLAIM) && !defined(PUBLISH_EARLY)
            assert(HERE.stamp[SLOT(ticket)] == WRITING(ticket)); /* nobody took the claim away */
#endif
            HERE.stamp[SLOT(ticket)] = FINISHED(ticket);
            open--;
            holds = 0;
            steps++
        });
        goto next;
give_up:
#if SLOTS >= TICKETS
        assert(false); /* where nobody is lapped nothing is contended */
#endif
        /* Counted as contended: one atomic addition. */
        STEP(atomic { open--; holds = 0; steps++ });
next:
        assert(steps <= 6); /* of its own, whatever the others do */
        lane = 0; ticket = 0; seen = 0; steps = 0
    od;
    atomic { ended++; alive[_pid] = 0 };
    goto over;
dead:
    atomic {
        open = open - holds; ended++; alive[_pid] = 0;
        lane = 0; ticket = 0; seen = 0; steps = 0; holds = 0
    };
over:
    skip
}

#define AT at[lane]
#if LANES == 2
#define CAUGHT_UP at[0] >= ring[0].head && at[1] >= ring[1].head
#else
#define CAUGHT_UP at[0] >= ring[0].head
#endif

active proctype Reader() {
    byte at[LANES];
    byte accounted[LANES]; /* delivered + lost */
    byte lane = 0, head = 0, stamp = 0, word0 = 0, word1 = 0;

    /* It begins with the first ticket, or comes later and begins with the oldest still there. */
    if
    :: skip
#ifdef LATE
    :: d_step {
        do
        :: lane < LANES ->
            if :: ring[lane].head > SLOTS -> AT = ring[lane].head - SLOTS :: else fi;
            accounted[lane] = AT;
            lane++
        :: else -> break
        od;
        lane = 0
       }
#endif
    fi;

next_look:
    do
    :: d_step { at[0] < ring[0].head -> lane = 0; head = ring[0].head } -> goto look
#if LANES == 2
    :: d_step { at[1] < ring[1].head -> lane = 1; head = ring[1].head } -> goto look
#endif
    :: ended == PRODUCERS && CAUGHT_UP -> break
    od;
    goto caught_up;

look:
    atomic {
        if
        :: head > AT + SLOTS -> /* a full ring behind: gone */
            accounted[lane] = accounted[lane] + head - SLOTS - AT;
            AT = head - SLOTS
        :: else
        fi;
        head = 0
    }
    stamp = ring[lane].stamp[SLOT(AT)];
    if
    :: stamp != FINISHED(AT)
    :: else ->
        if
#ifdef LOOK_EARLY
        :: word0 = ring[lane].body0[SLOT(AT)];
           stamp = ring[lane].stamp[SLOT(AT)];
           word1 = ring[lane].body1[SLOT(AT)]
#else
        :: word0 = ring[lane].body0[SLOT(AT)]; word1 = ring[lane].body1[SLOT(AT)]
        :: word1 = ring[lane].body1[SLOT(AT)]; word0 = ring[lane].body0[SLOT(AT)]
#endif
        fi;
#if !defined(NO_RECHECK) && !defined(LOOK_EARLY)
        stamp = ring[lane].stamp[SLOT(AT)];
#endif
        if
        :: stamp == FINISHED(AT) ->
            d_step {
                assert(word0 == word1);          /* not torn */
                assert(word0 == MARK(AT, lane)); /* the ticket's own event: in order, once */
                accounted[lane]++;
                AT++;
                stamp = 0; word0 = 0; word1 = 0; head = 0
            }
            goto next_look
        :: else
        fi
    fi;
    if
    :: (stamp >> 1) > AT + 1 -> /* a newer ticket has the slot: overwritten */
        assert(SLOT((stamp >> 1) - 1) == SLOT(AT));
        head = ring[lane].head;
        d_step {
            assert((stamp >> 1) <= head);
#ifdef LOSE_ONE
            accounted[lane]++;
            if :: head > AT + 1 + SLOTS -> AT = head - SLOTS :: else -> AT++ fi
#else
            if
            :: head > AT + 1 + SLOTS ->
                accounted[lane] = accounted[lane] + head - SLOTS - AT;
                AT = head - SLOTS
            :: else -> accounted[lane]++; AT++
            fi
#endif
        }
    :: else -> /* unfinished: it waits for a change, and gives up some time */
#if SLOTS >= TICKETS
        assert((stamp & 1) || stamp == 0); /* only what is being written, or not begun */
#endif
        if
        :: ring[lane].stamp[SLOT(AT)] != stamp
        :: d_step {
            accounted[lane]++;
            AT++
#ifdef DELIVER_LATE
            ; if :: stamp & 1 -> AT-- :: else fi
#endif
           }
        fi
    fi;
    stamp = 0; word0 = 0; word1 = 0; head = 0;
    goto next_look;

caught_up:
    atomic {
        head = ring[0].head;
#if LANES == 2
        head = head + ring[1].head;
        assert(accounted[1] == ring[1].head);
#endif
        assert(head == taken);                /* produced is exact */
        assert(accounted[0] == ring[0].head); /* delivered + lost is exact */
        assert(open == 0); /* each ticket was published or counted, or its producer died */
        reader_done = 1
    }
}

/* Whatever the others do, or do not do any more, a producer can take its next step. (Only with
 * DEATHS=0: a step that death may replace can always be taken.) */
#ifdef NEVER_WAITS
#define CAN_GO_ON(producer) (!alive[producer] || enabled(producer))
#if PRODUCERS == 3
#define ALL_CAN_GO_ON CAN_GO_ON(0) && CAN_GO_ON(1) && CAN_GO_ON(2)
#else
#define ALL_CAN_GO_ON CAN_GO_ON(0) && CAN_GO_ON(1)
#endif
never {
    do
    :: !(ALL_CAN_GO_ON) -> break
    :: else
    od
}
#endif

/* Producers end, and the reader catches up, if every process that can go on does so some time. */
#ifdef ALL_END
ltl all_end { <> (ended == PRODUCERS && reader_done) }
#endif
