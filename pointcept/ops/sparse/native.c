// Sparse convolution on a CPU: rows are gathered, multiplied by the matrix of their tap, and added to the rows they
// belong to.
//
// The functions walk the pairs of a plan: output rows in chunks, the pairs of a chunk ordered by tap and then by output
// row, `starts[chunk * num_taps + tap]` being the first of a tap's. The pairs (row, row) of `identity_tap` are in no
// list; it is -1 where there are none. Sums stay in registers over a tile of TILE_ROWS rows and TILE_COLUMNS columns.
// Every value is summed by one thread, and in the same order whatever the number of threads.

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16, TILE_ROWS = 12 };
#elif defined(__AVX__)
enum { LANES = 8, TILE_ROWS = 6 };
#elif defined(__aarch64__)
enum { LANES = 4, TILE_ROWS = 8 };
#else
enum { LANES = 4, TILE_ROWS = 4 };
#endif
enum {
    TILE_COLUMNS = 2 * LANES,
    DEPTH = 256,          // input channels that are multiplied at once
    PAIRS_AT_ONCE = 256,  // of one tap, whose outer products are summed at once
    MOST_ROWS = 1024,     // output rows of one job
    FEWEST_ROWS = 64,
};
const int64_t tile_rows = TILE_ROWS, tile_columns = TILE_COLUMNS, pairs_at_once = PAIRS_AT_ONCE;

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

extern int omp_get_thread_num(void);

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static inline int64_t rounded_up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

// Row r of `out`, from `column` on, gets or is increased by the sum over k of a[r * row_step + k * step] times the
// TILE_COLUMNS values from b[k * TILE_COLUMNS] on; of these it takes the first `width`.
static inline __attribute__((always_inline)) void tile(int rows, int64_t depth, const float *a, int64_t row_step,
                                                       int64_t step, const float *b, float *const *out, int64_t column,
                                                       int64_t width, int adds) {
    lanes sums[TILE_ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = (lanes){0};
    for (int64_t k = 0; k < depth; k++) {
        const lanes *line = (const lanes *)(b + k * TILE_COLUMNS);
        const lanes left = line[0], right = line[1];
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            const float factor = a[r * row_step + k * step];
            sums[r][0] += factor * left;
            sums[r][1] += factor * right;
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        float *target = out[r] + column;
        if (width == TILE_COLUMNS) {
            lanes *whole = (lanes *)target;
            if (adds) sums[r][0] += whole[0], sums[r][1] += whole[1];
            whole[0] = sums[r][0], whole[1] = sums[r][1];
        } else {
            float values[TILE_COLUMNS];
            memcpy(values, sums[r], sizeof values);
            for (int64_t c = 0; c < width; c++) target[c] = adds ? target[c] + values[c] : values[c];
        }
    }
}

// As `tile`, for any number of rows up to TILE_ROWS.
static void multiply(int64_t rows, int64_t depth, const float *a, int64_t row_step, int64_t step, const float *b,
                     float *const *out, int64_t column, int64_t width, int adds) {
    enum { SOME = TILE_ROWS / 3 };
    if (rows == TILE_ROWS) {
        tile(TILE_ROWS, depth, a, row_step, step, b, out, column, width, adds);
        return;
    }
    int64_t r = 0;
    for (; r + SOME <= rows; r += SOME)
        tile(SOME, depth, a + r * row_step, row_step, step, b, out + r, column, width, adds);
    for (; r < rows; r++) tile(1, depth, a + r * row_step, row_step, step, b, out + r, column, width, adds);
}

// A tap's matrix as panels of TILE_COLUMNS output channels, the last filled up with zeros.
static void pack_matrix(const float *matrix, int64_t in_step, int64_t out_step, int64_t channels_in,
                        int64_t channels_out, float *panel) {
    for (int64_t first = 0; first < channels_out; first += TILE_COLUMNS, panel += channels_in * TILE_COLUMNS) {
        const int64_t width = least(TILE_COLUMNS, channels_out - first);
        const float *source = matrix + first * out_step;
        if (width < TILE_COLUMNS) memset(panel, 0, sizeof(float) * channels_in * TILE_COLUMNS);
        // The side whose values lie together goes innermost, in runs that one line of the cache holds.
        for (int64_t begin = 0; begin < channels_in; begin += 16) {
            const int64_t end = least(begin + 16, channels_in);
            if (out_step == 1)
                for (int64_t k = begin; k < end; k++)
                    memcpy(panel + k * TILE_COLUMNS, source + k * in_step, sizeof(float) * width);
            else
                for (int64_t c = 0; c < width; c++)
                    for (int64_t k = begin; k < end; k++)
                        panel[k * TILE_COLUMNS + c] = source[k * in_step + c * out_step];
        }
    }
}

// Position of the first of `count` rising rows that is not below `row`.
static int64_t first_from(const int32_t *rows, int64_t count, int64_t row) {
    int64_t low = 0;
    while (low < count) {
        const int64_t middle = (low + count) / 2;
        if (rows[middle] < row)
            low = middle + 1;
        else
            count = middle;
    }
    return low;
}

// The products of one tap's pairs, written to their output rows or added. Without lists the pairs are (row, row) from
// `first_row` on.
static void multiply_pairs(const float *features, int64_t channels_in, const float *panels, const int32_t *in_rows,
                           const int32_t *out_rows, int64_t first_row, int64_t num_pairs, float *out,
                           int64_t channels_out, int adds) {
    float gathered[TILE_ROWS * DEPTH] __attribute__((aligned(64)));
    float *targets[TILE_ROWS];
    for (int64_t pair = 0; pair < num_pairs; pair += TILE_ROWS) {
        const int64_t rows = least(TILE_ROWS, num_pairs - pair);
        for (int64_t r = 0; r < rows; r++)
            targets[r] = out + (out_rows ? out_rows[pair + r] : first_row + pair + r) * channels_out;
        for (int64_t first = 0; first < channels_in; first += DEPTH) {
            const int64_t depth = least(DEPTH, channels_in - first);
            for (int64_t r = 0; r < rows; r++) {
                const int64_t row = in_rows ? in_rows[pair + r] : first_row + pair + r;
                memcpy(gathered + r * DEPTH, features + row * channels_in + first, sizeof(float) * depth);
            }
            for (int64_t r = TILE_ROWS; in_rows && r < least(2 * TILE_ROWS, num_pairs - pair); r++)
                for (int64_t k = first; k < first + depth; k += 16)
                    __builtin_prefetch(features + in_rows[pair + r] * channels_in + k);
            const float *panel = panels + first * TILE_COLUMNS;
            for (int64_t column = 0; column < channels_out; column += TILE_COLUMNS, panel += channels_in * TILE_COLUMNS)
                multiply(rows, depth, gathered, DEPTH, 1, panel, targets, column,
                         least(TILE_COLUMNS, channels_out - column), adds || first);
        }
    }
}

// out[o] = sum over all pairs (i, o) of features[i] times the matrix of their tap.
//
// features: (num_in, channels_in). matrices: the first tap's, (channels_in, channels_out), and the steps to the next
// tap, input and output channel. panels: room for num_taps * channels_in * channels_out values, the channels rounded up
// to whole tiles. out: (num_out, channels_out).
void sparse_convolution(const float *features, int64_t channels_in, const float *matrices, int64_t tap_step,
                        int64_t in_step, int64_t out_step, const int32_t *in_rows, const int32_t *out_rows,
                        const int64_t *starts, int64_t num_chunks, int64_t chunk_rows, int64_t num_taps,
                        int64_t identity_tap, float *panels, float *out, int64_t num_out, int64_t channels_out,
                        int num_threads) {
    const int64_t panel_size = channels_in * rounded_up(channels_out, TILE_COLUMNS);
    int64_t rows = least(chunk_rows, MOST_ROWS);  // of a job; enough jobs to keep all threads busy
    while (rows > FEWEST_ROWS && num_out < 2 * num_threads * rows) rows = (rows + 1) / 2;
    const int64_t jobs = (chunk_rows + rows - 1) / rows;  // of a chunk
#pragma omp parallel num_threads(num_threads)
    {
#pragma omp for schedule(static)
        for (int64_t tap = 0; tap < num_taps; tap++)
            pack_matrix(matrices + tap * tap_step, in_step, out_step, channels_in, channels_out,
                        panels + tap * panel_size);
#pragma omp for schedule(dynamic)
        for (int64_t job = 0; job < num_chunks * jobs; job++) {
            const int64_t chunk = job / jobs, begin = chunk * chunk_rows + job % jobs * rows;
            const int64_t end = least(least(begin + rows, (chunk + 1) * chunk_rows), num_out);
            if (begin >= end) continue;
            if (identity_tap < 0)
                memset(out + begin * channels_out, 0, sizeof(float) * (end - begin) * channels_out);
            else
                multiply_pairs(features, channels_in, panels + identity_tap * panel_size, NULL, NULL, begin,
                               end - begin, out, channels_out, 0);
            for (int64_t tap = 0; tap < num_taps; tap++) {
                const int64_t *start = starts + chunk * num_taps + tap;
                const int64_t low = start[0] + first_from(out_rows + start[0], start[1] - start[0], begin);
                const int64_t high = start[0] + first_from(out_rows + start[0], start[1] - start[0], end);
                multiply_pairs(features, channels_in, panels + tap * panel_size, in_rows + low, out_rows + low, 0,
                               high - low, out, channels_out, 1);
            }
        }
    }
}

// Channels `first` to `last` of some rows of values, as panels of `size` channels, the last filled up with zeros.
// Without a list the rows are those from `first_row` on.
static inline __attribute__((always_inline)) void pack_rows(int size, const float *values, int64_t channels,
                                                            const int32_t *rows, int64_t first_row, int64_t num_rows,
                                                            int64_t first, int64_t last, float *panels) {
    for (int64_t r = 0; r < num_rows; r++) {
        const float *source = values + (rows ? rows[r] : first_row + r) * channels;
        float *target = panels + r * size;
        for (int64_t c = first; c < last; c += size, target += num_rows * size) {
            if (c + size <= last) {
                memcpy(target, source + c, sizeof(float) * size);
            } else {
                memset(target, 0, sizeof(float) * size);
                memcpy(target, source + c, sizeof(float) * (last - c));
            }
        }
    }
}

// grad_weight[c, tap, d] = sum over the tap's pairs (i, o) of grad[o, c] * features[i, d].
//
// features: (num_in, channels_in). grad: (num_out, channels_out). scratch: pairs_at_once * (channels_in + channels_out)
// values for each thread, the channels rounded up to whole tiles. grad_weight: (channels_out, num_taps, channels_in).
void sparse_weight_gradient(const float *features, int64_t channels_in, const float *grad, int64_t channels_out,
                            const int32_t *in_rows, const int32_t *out_rows, const int64_t *starts, int64_t num_chunks,
                            int64_t num_taps, int64_t identity_tap, int64_t num_out, float *scratch,
                            float *grad_weight, int num_threads) {
    const int64_t row_step = num_taps * channels_in, padded_in = rounded_up(channels_in, TILE_COLUMNS);
    const int64_t scratch_size = PAIRS_AT_ONCE * (padded_in + rounded_up(channels_out, TILE_ROWS));
    // Input channels of a job: all of them where the taps alone keep the threads busy.
    const int64_t span = num_taps >= 4 * num_threads ? padded_in : TILE_COLUMNS;
    const int64_t spans = (channels_in + span - 1) / span;
    memset(grad_weight, 0, sizeof(float) * channels_out * row_step);
#pragma omp parallel for schedule(dynamic) num_threads(num_threads)
    for (int64_t job = 0; job < num_taps * spans; job++) {
        float *inputs = scratch + omp_get_thread_num() * scratch_size, *grads = inputs + PAIRS_AT_ONCE * span;
        float *targets[TILE_ROWS];
        const int64_t tap = job / spans, first = job % spans * span, last = least(first + span, channels_in);
        const int is_identity = tap == identity_tap;
        for (int64_t chunk = 0; chunk < (is_identity ? 1 : num_chunks); chunk++) {
            const int64_t *start = starts + chunk * num_taps + tap;
            const int64_t begin = is_identity ? 0 : start[0], end = is_identity ? num_out : start[1];
            for (int64_t pair = begin; pair < end; pair += PAIRS_AT_ONCE) {
                const int64_t pairs = least(PAIRS_AT_ONCE, end - pair);
                pack_rows(TILE_COLUMNS, features, channels_in, is_identity ? NULL : in_rows + pair, pair, pairs, first,
                          last, inputs);
                pack_rows(TILE_ROWS, grad, channels_out, is_identity ? NULL : out_rows + pair, pair, pairs, 0,
                          channels_out, grads);
                for (int64_t row = 0; row < channels_out; row += TILE_ROWS) {
                    const int64_t rows = least(TILE_ROWS, channels_out - row);
                    for (int64_t r = 0; r < rows; r++)
                        targets[r] = grad_weight + (row + r) * row_step + tap * channels_in;
                    for (int64_t column = first; column < last; column += TILE_COLUMNS)
                        multiply(rows, pairs, grads + row * pairs, 1, TILE_ROWS, inputs + (column - first) * pairs,
                                 targets, column, least(TILE_COLUMNS, last - column), 1);
                }
            }
        }
    }
}
