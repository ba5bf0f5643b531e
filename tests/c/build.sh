# Sourced by the scripts that check the C code on its own.
#   build_c COMPILER OUTPUT PROGRAM.c [FLAG...]   PROGRAM.c linked with all of csrc, every tier of the compiler's target
# Flags and tiers are read from CMakeLists.txt: what is checked is what is shipped. FLAGs come after them. A tier that this
# processor has not is linked, not run: it is compiled in the shortest time.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

build_c() {
    local cc=$1 output=$2 program=$3
    shift 3
    local target arch tiers flags objects=() jobs=() tier name job source version own optimised
    local -A needs=([v3]=avx2 [v4]=avx512vl)
    target=$($cc -dumpmachine) version=$($cc -dumpversion)
    flags=$(sed -n 's/^set(kernel_flags \(.*\))$/\1/p' "$root/CMakeLists.txt")
    [[ $cc == *clang* ]] || flags+=$(sed -n 's|^ *list(APPEND kernel_flags \(-[^)]*\)).*$| \1|p' "$root/CMakeLists.txt")
    case $target in
        x86_64*) arch=XENT_X86 tiers=$(sed -n 's/^ *add_tier(\(.*-march=x86-64.*\))$/\1/p' "$root/CMakeLists.txt") ;;
        aarch64*) arch=XENT_NEON tiers=$(sed -n 's/^ *add_tier(\(neon.*\))$/\1/p' "$root/CMakeLists.txt") ;;
        *) echo "build_c: no tiers for $target" >&2; return 1 ;;
    esac
    [[ -n $flags && -n $tiers ]] || { echo "build_c: CMakeLists.txt has no kernel flags or tiers" >&2; return 1; }
    # shellcheck disable=SC2206
    local common=(-std=gnu11 -Wall -Wextra -I "$root/csrc" -D "$arch" -D XENT_VERSION=0) kernel=($flags)
    rm -rf "$output.objects"
    mkdir -p "$output.objects"
    while read -r -a tier; do
        name=${tier[0]} own=
        [[ $cc == *clang* ]] || ((${version%%.*} < 12)) ||
            own=$(sed -n "s/^ *gcc_12_flags($name \(.*\))$/\1/p" "$root/CMakeLists.txt")
        optimised=$*
        [[ $target != x86_64* || -z ${needs[$name]:-} || ! -r /proc/cpuinfo ]] ||
            grep -qw "${needs[$name]}" /proc/cpuinfo || optimised=-O0
        for source in "$root"/csrc/kernels/*.c; do
            objects+=("$output.objects/$name-$(basename "$source" .c).o")
            jobs+=("$cc ${common[*]} ${kernel[*]} -D XENT_TIER=$name ${tier[*]:1} $own $optimised -c $source -o ${objects[-1]}")
        done
    done <<<"$tiers"
    for source in "$root"/csrc/*.c "$program"; do
        objects+=("$output.objects/$(basename "$source" .c).o")
        jobs+=("$cc ${common[*]} -O2 -ffp-contract=off $* -c $source -o ${objects[-1]}")
    done
    printf '%s\n' "${jobs[@]}" | xargs -P "$(nproc)" -d '\n' -n 1 bash -c 'exec $1' compile
    "$cc" "${objects[@]}" "$@" -pthread -lm -o "$output"
    rm -rf "$output.objects"
}
