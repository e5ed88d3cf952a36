#!/usr/bin/env bash
# The C core under sanitizers: the protocol, and scans of a ring meanwhile, alone under ThreadSanitizer
# and under AddressSanitizer with UndefinedBehaviorSanitizer, then the whole extension under the latter
# two, with the tests of the contract (rings, readers, observed callables, twins), of spans, emissions
# and damaged recordings, of hooks and watches, and the stress tests, whose programs are under them
# too; last the tests of queries with Python's own checks of its allocators, which tell memory that
# goes back to another one than it came from.
#
#     tools/sanitize.sh [native|extension]...      (both)
#
# SANITIZE_TESTS="tests/stress ..." runs others of the tests under the extension's sanitizers.
set -euo pipefail
cd "$(dirname "$0")/.."
core=kobs/_core/src
out=$PWD/build/sanitize
seconds=${STRESS_S:-2}
tests=(tests/contract tests/stress tests/unit/tracing tests/unit/test_observe_emits.py
    tests/unit/test_fuzz.py tests/instrumentation/test_hooks.py tests/instrumentation/test_watch_*.py
    tests/instrumentation/test_cause_boundaries.py)
of_queries=(tests/contract/test_allocators.py tests/contract/test_twin_scan.py tests/unit/test_query*.py)
[ -z "${SANITIZE_TESTS:-}" ] || read -ra tests <<<"$SANITIZE_TESTS"
cc=${CC:-gcc}

build_native() { # SANITIZERS PROGRAM SOURCE...
    # gcc's ThreadSanitizer knows no fences. Every word that threads share is accessed
    # atomically, so there is no race for it to report wrongly.
    "$cc" -std=c11 -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all "-fsanitize=$1" \
        -Wall -Wextra -Wno-tsan -I"$core" -I"$headers" "${@:3}" -o "$2" -pthread -lm
}

native() {
    mkdir -p "$out"
    headers=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
    for sanitizers in thread address,undefined; do
        echo "== $sanitizers"
        program=$out/ring_stress-${sanitizers%%,*}
        build_native $sanitizers "$program" tests/native/ring_stress.c "$core"/{ring,cursor,clock}.c
        "$program" "$seconds"
        program=$out/scan_stress-${sanitizers%%,*}
        build_native $sanitizers "$program" tests/native/scan_stress.c \
            "$core"/{ring,clock,scan,sample}.c
        "$program" "$seconds"
    done
}

extension() {
    rm -rf "$out/lib" "$out/temp"
    KOBS_BUILD_CORE=1 KOBS_SANITIZE=address,undefined .venv/bin/python setup.py -q build \
        --build-base "$out/temp" --build-lib "$out/lib"
    # Python itself is not built for it: what it leaves at its end is no leak, and its own
    # allocator would hide where a block ends.
    runtime=$("$cc" -print-file-name=libasan.so)
    export ASAN_OPTIONS=detect_leaks=0:use_sigaltstack=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    export PYTHONMALLOC=malloc PYTHONPATH=$out/lib PYTHONSAFEPATH=1
    export LD_PRELOAD=$runtime
    found=$(.venv/bin/python -c "from kobs._core import _native; print(_native.__file__)")
    case $found in
    "$out"/*) echo "== address,undefined: $found" ;;
    *) echo "the tests would run against $found" >&2 && exit 1 ;;
    esac
    # (The memory of a process under AddressSanitizer tells nothing; its address space is terabytes.)
    limited=tests/instrumentation/test_watch_memory.py::test_a_process_that_uses_up_its_address_space
    .venv/bin/pytest -q -o pythonpath="$out/lib . examples" -m "not slow" \
        --deselect tests/contract/test_files.py::test_memory_goes_with_the_ring \
        --deselect $limited \
        ${PYTEST_ARGS:-} "${tests[@]}"
    echo "== PYTHONMALLOC=debug"
    PYTHONMALLOC=debug .venv/bin/pytest -q -o pythonpath="$out/lib . examples" ${PYTEST_ARGS:-} \
        "${of_queries[@]}"
}

[ $# -gt 0 ] || set -- native extension
for what in "$@"; do
    "$what"
done
