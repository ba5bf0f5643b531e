/* Which tier runs: the table of kernels is filled with the baseline first and overwritten by each higher tier that
 * this CPU has and XENT_TIER (or xent_set_tier) does not rule out. The table is the only thing calls go through, and
 * the tier that is reported is read from it. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

typedef void (*fill_tier)(xent_table *);

#if defined(XENT_X86)
void xent_fill_baseline(xent_table *);
void xent_fill_v3(xent_table *);
void xent_fill_v4(xent_table *);

/* The builtins also ask the operating system whether it saves the wide registers. */
static int has_v3(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");
}
static int has_v4(void) {
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#elif defined(XENT_NEON)
void xent_fill_neon(xent_table *);
#else
void xent_fill_baseline(xent_table *);
#endif

static int always(void) {
    return 1;
}

static const struct {
    const char *name;
    int (*usable)(void);
    fill_tier fill;
} TIERS[] = {
#if defined(XENT_X86)
    {"baseline", always, xent_fill_baseline},
    {"v3", has_v3, xent_fill_v3},
    {"v4", has_v4, xent_fill_v4},
#elif defined(XENT_NEON)
    {"neon", always, xent_fill_neon},
#else
    {"baseline", always, xent_fill_baseline},
#endif
};
enum { N_TIERS = sizeof TIERS / sizeof *TIERS };

static xent_table live;

/* Filled when the library is loaded, before any thread can look. */
__attribute__((constructor)) static void fill_at_load(void) {
    xent_set_tier(NULL);
}

const xent_table *xent_live_table(void) {
    return &live;
}

/* Up to the tier of that name; NULL or "": up to the highest. Not while another thread is in a kernel. */
int xent_set_tier(const char *name) {
    xent_table table = {0};
    for (int i = 0; i < N_TIERS; i++) {
        if (!TIERS[i].usable()) break;
        TIERS[i].fill(&table);
        if (name && *name && strcmp(name, TIERS[i].name) == 0) break;
    }
    if (name && *name && strcmp(name, table.tier) != 0) return -1;
    live = table;
    return 0;
}

const char *xent_tier(void) {
    return xent_live_table()->tier;
}

const char *xent_tier_name(int i) {
    return i >= 0 && i < N_TIERS && TIERS[i].usable() ? TIERS[i].name : NULL;
}

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

const char *xent_compiler(void) {
#if defined(__clang__)
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
}

const char *xent_version(void) {
    return STRING(XENT_VERSION);
}
