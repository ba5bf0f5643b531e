/* Where rows and numbers are in memory: row pointers, and blocks of a row copied to and from a contiguous buffer where a
 * row has no plain pointer (strided, misaligned, other byte order, several class axes) and is not packed. */
#ifndef XENT_ROWS_H
#define XENT_ROWS_H

#include "lanes.h"

XENT_INLINE char *row_of(const xent_layout *layout, const xent_view *view, ptrdiff_t row) {
    char *p = view->data;
    for (int d = layout->n_batch - 1; d > 0; d--) {
        p += row % layout->batch_shape[d] * view->batch_stride[d];
        row /= layout->batch_shape[d];
    }
    return layout->n_batch ? p + row * view->batch_stride[0] : p;
}

/* Rows first .. first + n - 1. */
static inline void rows_of(const xent_layout *layout, const xent_view *view, ptrdiff_t first, int n, char **to) {
    if (layout->n_batch <= 1) {
        const ptrdiff_t stride = layout->n_batch ? view->batch_stride[0] : 0;
        char *p = (char *)view->data + first * stride;
        for (int r = 0; r < n; r++, p += stride) to[r] = p; /* no products: vectors of 64 bits have none */
    } else
        for (int r = 0; r < n; r++) to[r] = row_of(layout, view, first + r);
}

/* Rows row[0 .. n), in their order. */
static inline void these_rows(const xent_layout *layout, const xent_view *view, const ptrdiff_t *row, int n,
                              char **to) {
    if (row[n - 1] - row[0] == n - 1)
        rows_of(layout, view, row[0], n, to);
    else
        for (int r = 0; r < n; r++) to[r] = row_of(layout, view, row[r]);
}

/* From a row to the next, in bytes, as long as the innermost batch axis goes on. */
XENT_INLINE ptrdiff_t row_step(const xent_layout *layout, const xent_view *view) {
    return layout->n_batch ? view->batch_stride[layout->n_batch - 1] : 0;
}

XENT_INLINE ptrdiff_t magnitude(ptrdiff_t n) {
    return n < 0 ? -n : n;
}

/* Whether rows that follow each other lie side by side, in runs long enough to be packed as columns (pack_columns.h). */
enum { XENT_COLUMN_RUN = 16, XENT_COLUMN_CLASSES = 65536 };
static inline int lie_side_by_side(const xent_layout *layout, const xent_view *view) {
    const int row = layout->n_batch - 1, last = layout->n_class - 1;
    return !view->direct && row >= 0 && last >= 0 && layout->batch_shape[row] >= XENT_COLUMN_RUN &&
           magnitude(view->batch_stride[row]) < magnitude(view->class_stride[last]);
}

XENT_INLINE int is_half(xent_type type) {
    return type == XENT_FLOAT16 || type == XENT_BFLOAT16;
}

/* Whether rows are too long to be packed whole. */
enum { XENT_LONGEST_PACKED = XENT_COLUMN_CLASSES * 4 /* bytes, as numbers of float32 or float64 */ };
static inline int too_long_to_pack(const xent_layout *layout, const xent_view *x) {
    return layout->classes > XENT_LONGEST_PACKED / (x->type == XENT_FLOAT64 ? 8 : 4);
}

/* Whether rows are packed as columns; where there are results, these are, too. Such as are too long for it come a block at a
 * time, twice, if a thread has half of those that are worked on at once: on two threads, (C, 32) and (C, 49), softmax, takes 0.1
 * to 0.5 of the time of rows one by one, where they lie, (66000, 16) 1.3; and 16 bits, which are converted each time, 1.1 to
 * 1.8. */
static inline int by_columns(const xent_layout *layout, const xent_view *x, const xent_view *out) {
    return lie_side_by_side(layout, x) && (!out || lie_side_by_side(layout, out)) &&
           (!too_long_to_pack(layout, x) ||
            (layout->batch_shape[layout->n_batch - 1] >= XENT_SIDE / 2 * (ptrdiff_t)xent_get_num_threads() &&
             (!out || !is_half(x->type))));
}

/* Row `first` of the batch is now at `rows`; `stride` is that of the view, from row to row. */
XENT_INLINE void begin_rows(xent_view *view, void *rows, ptrdiff_t stride, ptrdiff_t first) {
    view->data = (char *)((uintptr_t)rows - (uintptr_t)first * (uintptr_t)stride), view->first = first;
}

/* Plain rows of `size` bytes a number, `stride` bytes apart, the first of which is row `first` of the batch. */
static inline xent_view plain_rows(const xent_layout *layout, void *rows, xent_type type, ptrdiff_t size,
                                   ptrdiff_t stride, ptrdiff_t first) {
    xent_view view = {.type = type, .direct = 1};
    begin_rows(&view, rows, stride, first);
    for (int d = layout->n_class - 1; d >= 0; d--) view.class_stride[d] = size, size *= layout->class_shape[d];
    for (int d = layout->n_batch - 1; d >= 0; d--) view.batch_stride[d] = stride, stride *= layout->batch_shape[d];
    return view;
}

/* The element i of a row that starts at p. */
XENT_INLINE char *element_of(const xent_layout *layout, const xent_view *view, char *p, ptrdiff_t i) {
    for (int d = layout->n_class - 1; d > 0; d--) {
        p += i % layout->class_shape[d] * view->class_stride[d];
        i /= layout->class_shape[d];
    }
    return layout->n_class ? p + i * view->class_stride[0] : p;
}

static const unsigned char SIZE_OF[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 2, 2};

/* Whether some rows are plain numbers, one row after another without a gap: then they can be taken as one. Short rows by
 * themselves leave little of a loop but its end. */
static inline int are_joined(const xent_layout *layout, const xent_view *view, ptrdiff_t rows) {
    const int follow = layout->n_batch <= 1 && row_step(layout, view) == layout->classes * SIZE_OF[view->type];
    return view->direct && (rows == 1 || follow);
}

/* One element in native order. */
XENT_INLINE void fetch(void *to, const char *from, int size, int swapped) {
    uint64_t eight;
    uint32_t four;
    uint16_t two;
    switch (size) {
        case 8:
            memcpy(&eight, from, 8);
            if (swapped) eight = __builtin_bswap64(eight);
            memcpy(to, &eight, 8);
            break;
        case 4:
            memcpy(&four, from, 4);
            if (swapped) four = __builtin_bswap32(four);
            memcpy(to, &four, 4);
            break;
        case 2:
            memcpy(&two, from, 2);
            if (swapped) two = __builtin_bswap16(two);
            memcpy(to, &two, 2);
            break;
        default: memcpy(to, from, 1);
    }
}

#define XENT_AS(TYPE)              \
    do {                           \
        TYPE v_;                   \
        memcpy(&v_, p, sizeof v_); \
        return (double)v_;         \
    } while (0)
static inline double number_at(const void *p, xent_type type) {
    switch (type) {
        case XENT_BOOL:
        case XENT_UINT8: XENT_AS(uint8_t);
        case XENT_INT8: XENT_AS(int8_t);
        case XENT_INT16: XENT_AS(int16_t);
        case XENT_UINT16: XENT_AS(uint16_t);
        case XENT_INT32: XENT_AS(int32_t);
        case XENT_UINT32: XENT_AS(uint32_t);
        case XENT_INT64: XENT_AS(int64_t);
        case XENT_UINT64: XENT_AS(uint64_t);
        case XENT_FLOAT32: XENT_AS(float);
        case XENT_FLOAT64: XENT_AS(double);
        case XENT_FLOAT16:
        case XENT_BFLOAT16: break; /* no weights, no targets */
    }
    return 0.0;
}
#undef XENT_AS

/* A label. Those past INT64_MAX come out negative; is_large tells. */
static inline int64_t label_at(const xent_vector *v, ptrdiff_t row, int *is_large) {
    const char *p = (const char *)v->data + row * v->stride;
    uint64_t u;
    *is_large = 0;
    if (v->type == XENT_INT64) {
        memcpy(&u, p, 8);
        return (int64_t)u;
    }
    if (v->type == XENT_UINT64) {
        memcpy(&u, p, 8);
        *is_large = u > INT64_MAX;
        return (int64_t)u;
    }
    return (int64_t)number_at(p, v->type); /* 32 bits and fewer: exact in a double */
}

/* Labels first .. first + n - 1, none of them past INT64_MAX: where they are, if they lie there as such, or in `to`. */
#define XENT_LABELS_BY(TYPE, STRIDE)                                   \
    for (ptrdiff_t i = 0; i < n; i++) {                                \
        TYPE y_;                                                       \
        memcpy(&y_, p + i * (STRIDE), sizeof y_), to[i] = (int64_t)y_; \
    }
#define XENT_LABELS(TYPE)                                           \
    if (v->stride == (ptrdiff_t)sizeof(TYPE))                       \
        XENT_LABELS_BY(TYPE, (ptrdiff_t)sizeof(TYPE)) /* vectors */ \
    else                                                            \
        XENT_LABELS_BY(TYPE, v->stride)                             \
    break
static inline const int64_t *labels_at(const xent_vector *v, ptrdiff_t first, ptrdiff_t n, int64_t *to) {
    const char *p = (const char *)v->data + first * v->stride;
    if (SIZE_OF[v->type] == 8 && v->stride == 8 && (uintptr_t)p % 8 == 0) return (const int64_t *)(const void *)p;
    switch (v->type) {
        case XENT_INT8: XENT_LABELS(int8_t);
        case XENT_BOOL:
        case XENT_UINT8: XENT_LABELS(uint8_t);
        case XENT_INT16: XENT_LABELS(int16_t);
        case XENT_UINT16: XENT_LABELS(uint16_t);
        case XENT_INT32: XENT_LABELS(int32_t);
        case XENT_UINT32: XENT_LABELS(uint32_t);
        default: XENT_LABELS(int64_t); /* 64 bits: labels are integers */
    }
    return to;
}
#undef XENT_LABELS
#undef XENT_LABELS_BY

/* The number of a vector, or what stands for one that is not given. */
XENT_INLINE double entry(const xent_vector *v, ptrdiff_t i, double otherwise) {
    return v->data ? number_at((const char *)v->data + i * v->stride, v->type) : otherwise;
}

/* Numbers first .. first + n - 1 of a vector that is given. */
static inline void entries(const xent_vector *v, ptrdiff_t first, ptrdiff_t n, double *to) {
    const char *p = (const char *)v->data + first * v->stride;
    if (v->type == XENT_FLOAT32 && v->stride == sizeof(float))
        for (ptrdiff_t i = 0; i < n; i++) {
            float number;
            memcpy(&number, p + i * (ptrdiff_t)sizeof number, sizeof number), to[i] = (double)number;
        }
    else
        for (ptrdiff_t i = 0; i < n; i++) to[i] = number_at(p + i * v->stride, v->type);
}

/* Elements start .. start + n - 1 of a row as doubles: targets, weights. */
static inline void gather_numbers(const xent_layout *layout, const xent_view *view, char *row, ptrdiff_t start,
                                  ptrdiff_t n, double *to) {
    if (view->direct && view->type == XENT_FLOAT32) {
        const float *p = (const float *)row + start;
        for (ptrdiff_t i = 0; i < n; i++) to[i] = (double)p[i];
        return;
    }
    if (view->direct && view->type == XENT_FLOAT64) {
        memcpy(to, (const double *)row + start, (size_t)n * sizeof *to);
        return;
    }
    const int size = SIZE_OF[view->type];
    for (ptrdiff_t i = 0; i < n; i++) {
        double native;
        fetch(&native, element_of(layout, view, row, start + i), size, view->swapped);
        to[i] = number_at(&native, view->type);
    }
}

/* size is a constant at every call: the dtype of the logits. */
XENT_INLINE void gather_block(const xent_layout *layout, const xent_view *view, char *row, ptrdiff_t start, ptrdiff_t n,
                              void *to, int size) {
    if (layout->n_class <= 1) {
        const ptrdiff_t stride = layout->n_class ? view->class_stride[0] : 0;
        const char *p = row + start * stride;
        for (ptrdiff_t i = 0; i < n; i++) fetch((char *)to + i * size, p + i * stride, size, view->swapped);
    } else {
        for (ptrdiff_t i = 0; i < n; i++)
            fetch((char *)to + i * size, element_of(layout, view, row, start + i), size, view->swapped);
    }
}

XENT_INLINE void scatter_block(const xent_layout *layout, const xent_view *view, char *row, ptrdiff_t start,
                               ptrdiff_t n, const void *from, int size) {
    if (layout->n_class <= 1) {
        const ptrdiff_t stride = layout->n_class ? view->class_stride[0] : 0;
        char *p = row + start * stride;
        for (ptrdiff_t i = 0; i < n; i++) memcpy(p + i * stride, (const char *)from + i * size, (size_t)size);
    } else {
        for (ptrdiff_t i = 0; i < n; i++)
            memcpy(element_of(layout, view, row, start + i), (const char *)from + i * size, (size_t)size);
    }
}

#endif
