/* Large results of 16 bits in rows that follow each other, of classes that are swept: converted beside the pack, and stored
 * past the cache within the sweeps over the rows of the next, where these are ordinary (block_sweep). Stored at once, as many
 * lines would hold up every store behind them until memory has taken them. Loss and gradient, two threads, by the time of
 * float32: 8192 x 1000 1.16, and 1.0 so; 20000 x 400 1.7, 1.2; each row stored by itself as soon as it is scaled: 1.16,
 * 1.5. Included once per dtype, in pack.c.
 */
typedef struct {
    const xent_view *out; /* NULL: results are of another kind */
    uint16_t *lines;      /* room for those of a pack, where they lie within lines as they will in memory */
    xent_lines left;
} NAME(halves);

/* Where there is no memory for them they are other results, too. */
static void NAME(halves_start)(NAME(halves) * h, const xent_layout *layout, const xent_view *out,
                               const NAME(pack) * pack) {
    enum { SIZE = sizeof(uint16_t) };
    const ptrdiff_t size = layout->classes * SIZE;
    *h = (NAME(halves)){0};
    if (sizeof(REAL) != 4 || !out || !is_half(out->type) || !pack->past || layout->classes <= XENT_NARROW ||
        layout->n_batch != 1 || layout->n_class != 1 || out->batch_stride[0] != size || out->class_stride[0] != SIZE ||
        (uintptr_t)out->data % SIZE || out->swapped)
        return;
    h->lines = malloc((size_t)(pack->n * size + 2 * XENT_LINE));
    h->out = h->lines ? out : NULL;
}

/* What is left of the lines. */
static void NAME(store_left)(NAME(halves) * h) {
    xent_lines *left = &h->left;
    for (; left->n; left->n--, left->from += XENT_LINE, left->to += XENT_LINE) stream_line(left->to, left->from);
}

/* Rows first .. first + n - 1, which are in the pack; only whole lines are left. */
static void NAME(halves_out)(NAME(halves) * h, const xent_layout *layout, const NAME(pack) * pack, ptrdiff_t first,
                             ptrdiff_t n) {
    NAME(store_left)(h);
    char *to = row_of(layout, h->out, first);
    const ptrdiff_t classes = layout->classes, bytes = n * classes * (ptrdiff_t)sizeof *h->lines;
    uint16_t *row = h->lines + ((uintptr_t)to - (uintptr_t)h->lines) % XENT_LINE / sizeof *row;
    const char *from = (const char *)row;
    for (ptrdiff_t r = 0; r < n; r++, row += classes)
        line_to_half(h->out->type, (const float *)(const void *)(pack->rows + r * pack->stride), row, classes);
    const ptrdiff_t before = (ptrdiff_t)(-(uintptr_t)to % XENT_LINE), head = before < bytes ? before : bytes;
    h->left = (xent_lines){from + head, to + head, (bytes - head) / XENT_LINE};
    const ptrdiff_t tail = head + h->left.n * XENT_LINE;
    memcpy(to, from, (size_t)head);
    memcpy(to + tail, from + tail, (size_t)(bytes - tail));
}

static void NAME(halves_end)(NAME(halves) * h) {
    NAME(store_left)(h);
    free(h->lines);
}
