#!/bin/sh
# Checks the ring's protocol (tests/model/ring.pml) with spin, exhaustively within small bounds; then
# breaks the protocol in several ways, and fails unless each is found. docs/explanation/ring-model.md
# says what it means. MODEL_ONLY=NAME runs one check.
set -eu

model=$(cd "$(dirname "$0")/.." && pwd)/tests/model/ring.pml
compiler=${CC:-gcc}

say() { printf 'model: %s\n' "$*"; }
lack() { printf 'model: lacking: %s\n' "$*" >&2; exit 1; }

if ! command -v spin >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing Debian's spin"
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends spin >/dev/null
fi
command -v spin >/dev/null || lack "spin, a model checker (on Debian: apt-get install spin)"
command -v "$compiler" >/dev/null || lack "a C compiler, $compiler (on Debian: apt-get install gcc)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# run NAME "DEFINES FOR SPIN" "OPTIONS OF THE COMPILER" "OPTIONS OF PAN": leaves pan's words in $work/NAME/out
run() {
    mkdir "$work/$1"
    # shellcheck disable=SC2086
    (cd "$work/$1" && spin -a $2 "$model" >spin.out 2>&1 &&
        "$compiler" -O2 -w -DMEMLIM=4096 $3 -o pan pan.c >gcc.out 2>&1 &&
        ./pan -m100000 -w24 $4 >out 2>&1) || {
        cat "$work/$1"/*.out >&2
        lack "a run of $1: spin, $compiler or pan failed (see above)"
    }
}

wanted() { [ "${MODEL_ONLY:-$1}" = "$1" ]; }
states() { sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' "$work/$1/out"; }

# holds NAME DEFINES COMPILER PAN: there must be no error, and nothing left out of the search
holds() {
    wanted "$1" || return 0
    run "$@"
    if grep -q 'errors: 0$' "$work/$1/out" &&
        ! grep -qE 'error: max search depth|reached -DMEMLIM|out of memory|Search not completed' "$work/$1/out"; then
        say "$(printf '%-16s holds   %11s states' "$1" "$(states "$1")")"
    else
        failed=1
        say "$(printf '%-16s FAILS' "$1")"
        grep -E '^(pan|error)' "$work/$1/out" >&2 || true
        (cd "$work/$1" && spin -k ring.pml.trail -p $2 "$model" 2>/dev/null | grep -v '^spin: ' | tail -n 60) >&2 || true
    fi
    rm -rf "${work:?}/$1"
}

# caught NAME DEFINES COMPILER PAN WORDS: pan must find the error, and it must be this one
caught() {
    wanted "$1" || return 0
    run "$1" "$2 -D$1" "$3" "$4"
    if grep '^pan:1: ' "$work/$1/out" | grep -qF "$5"; then
        say "$(printf '%-16s caught  (%s)' "$1" "$5")"
    else
        failed=1
        say "$(printf '%-16s NOT CAUGHT: expected "%s"' "$1" "$5")"
        grep -E '^pan:1|errors:' "$work/$1/out" >&2 || true
    fi
    rm -rf "${work:?}/$1"
}

small="-DPRODUCERS=2 -DTICKETS=3"
holds two-producers "-DPRODUCERS=2 -DTICKETS=6" -DSAFETY ""
holds three-producers "-DPRODUCERS=3 -DTICKETS=4" -DSAFETY ""
holds late-reader "-DPRODUCERS=2 -DTICKETS=5 -DLATE" -DSAFETY ""
holds two-lanes "-DPRODUCERS=2 -DTICKETS=4 -DLANES=2" -DSAFETY ""
holds never-lapped "-DPRODUCERS=2 -DTICKETS=4 -DSLOTS=4" -DSAFETY ""
holds never-waits "-DPRODUCERS=3 -DTICKETS=4 -DDEATHS=0 -DNEVER_WAITS" -DNOREDUCE ""
holds all-end "-DPRODUCERS=2 -DTICKETS=4 -DALL_END" -DNFAIR=3 "-a -f"

caught PLAIN_HEAD "$small" -DSAFETY "" "(head==taken)"
caught NO_CLAIM "$small" -DSAFETY "" "(word0==word1)"
caught WAIT "$small -DDEATHS=0 -DNEVER_WAITS" -DNOREDUCE "" "end state in claim reached"
caught CLAIM_LATE "$small" -DSAFETY "" "(word0==word1)"
caught PUBLISH_EARLY "$small" -DSAFETY "" "(word0==word1)"
caught NO_RECHECK "$small" -DSAFETY "" "(word0==word1)"
caught LOOK_EARLY "$small" -DSAFETY "" "(word0==word1)"
caught LOSE_ONE "-DPRODUCERS=2 -DTICKETS=5" -DSAFETY "" "(accounted[0]==ring[0].head)"
caught DELIVER_LATE "$small" -DSAFETY "" "(accounted[0]==ring[0].head)"

if [ "$failed" = 0 ]; then say "the protocol holds within these bounds, and every broken one was found"; fi
exit "$failed"
