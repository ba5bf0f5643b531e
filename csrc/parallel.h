/* The row-parallel loop: body(context, first, last) over a static split of 0 .. n - 1. */
#ifndef XENT_PARALLEL_H
#define XENT_PARALLEL_H

#include <stddef.h>

/* Splits into at most `threads` pieces, the caller's own the first; returns when all are done. If the pool is busy
 * with another caller's loop, or no thread can be had, the caller does it all. */
void xent_parallel_for(ptrdiff_t n, int threads, void (*body)(void *, ptrdiff_t, ptrdiff_t), void *context);

#endif
