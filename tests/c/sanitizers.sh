#!/usr/bin/env bash
# The C code under sanitizers:  tests/c/sanitizers.sh [kernels] [pool]
#   kernels: every function, tier and layout under AddressSanitizer and UndefinedBehaviorSanitizer (gcc)
#   pool:    the thread pool under ThreadSanitizer (clang); fork, without
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/build.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Lines suffice to find a fault: where variables are, and an order of instructions for speed, would take gcc a quarter of the
# time.
quickly=(-O1 -g1)

check_kernels() {
    build_c "${CC:-gcc}" "$work/kernels" "$here/check_kernels.c" "${quickly[@]}" -fno-schedule-insns \
        -D XENT_STREAM_BYTES=8192 -D 'XENT_KEPT=(XENT_NARROW+1)' -D XENT_THROUGH=XENT_NARROW \
        -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all \
        -Wl,--wrap=malloc,--wrap=calloc
    ASAN_OPTIONS=detect_stack_use_after_return=1:detect_leaks=${LEAKS:-1} "$work/kernels"
}

check_pool() {
    build_c "${CLANG:-clang}" "$work/pool" "$here/check_pool.c" "${quickly[@]}" -fsanitize=thread
    # That runtime wants the address space it was built for, which some kernels randomise away.
    local fixed=()
    setarch -R true 2>/dev/null && fixed=(setarch -R)
    TSAN_OPTIONS=halt_on_error=1 "${fixed[@]}" "$work/pool"
    build_c "${CC:-gcc}" "$work/fork" "$here/check_pool.c" -O0 # a few seconds to run, however it was built
    "$work/fork" fork
}

[[ $# -gt 0 ]] || set -- kernels pool
for what; do "check_$what"; done
