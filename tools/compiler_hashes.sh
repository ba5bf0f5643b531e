#!/usr/bin/env bash
# The same bits from every compiler and processor: csrc built by gcc and clang for x86-64 (baseline, v3, v4) and by gcc
# for aarch64 (neon, run under qemu); each hashes its results over the inputs of tests/c/exercise.h. Exit status 0 if
# all hashes are equal. COMPILERS names others than these.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../tests/c/build.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

hash_of() { # COMPILER
    local run=()
    # What large results go through, in small ones.
    local flags=(-D XENT_STREAM_BYTES=8192 -D 'XENT_KEPT=(XENT_NARROW+1)' -D XENT_THROUGH=XENT_NARROW)
    if [[ $1 == aarch64* && $(uname -m) != aarch64 ]]; then
        run=(qemu-aarch64-static) flags+=(-static)
    fi
    build_c "$1" "$work/$1" "$here/../tests/c/hash_kernels.c" "${flags[@]}"
    "${run[@]}" "$work/$1" | sed "s/^/$1 /"
}

for compiler in ${COMPILERS:-gcc clang aarch64-linux-gnu-gcc}; do
    hash_of "$compiler" | tee -a "$work/hashes"
done
lines=$(wc -l <"$work/hashes") different=$(awk '{print $3}' "$work/hashes" | sort -u | wc -l)
if [[ $different -ne 1 ]]; then
    echo "compiler_hashes: $different different hashes" >&2
    exit 1
fi
echo "compiler_hashes: $lines builds, one hash"
