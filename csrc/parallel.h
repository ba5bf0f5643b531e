/* The row-parallel loop: body(context, first, last) over 0 .. n - 1, in contiguous chunks. */
#ifndef XENT_PARALLEL_H
#define XENT_PARALLEL_H

#include <stddef.h>

/* On at most `threads` threads, the caller's own among them; returns when all is done. If the pool is busy with another
 * caller's loop, or no thread can be had, the caller does it all. */
void xent_parallel_for(ptrdiff_t n, int threads, void (*body)(void *, ptrdiff_t, ptrdiff_t), void *context);

#endif
