/* Prints one line per tier of this build that this CPU has: its name, and the hash of all results over a fixed set of
 * inputs. tools/compiler_hashes.sh compares them across compilers and processors. */
#include "exercise.h"

int main(void) {
    variant how = PLAIN;
    how.thorough = 1;
    for (int i = 0; xent_tier_name(i); i++) {
        CHECK(xent_set_tier(xent_tier_name(i)) == 0);
        CHECK(strcmp(xent_tier(), xent_tier_name(i)) == 0);
        printf("%s %016llx\n", xent_tier(), (unsigned long long)exercise(&how));
        fflush(stdout);
    }
    return 0;
}
