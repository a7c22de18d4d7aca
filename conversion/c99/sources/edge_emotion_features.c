/* Samples to features, in fixed point: MFCC, deltas and delta-deltas, as edge_runtime.mfcc defines
 * them.
 *
 * Right shifts of negative numbers are taken to be arithmetic, as they are on every compiler that
 * the library is for.
 */
#include <string.h>

#include "edge_emotion_parts.h"

#define HALF (ES_FFT / 2)     /* points of the complex transform that does the work */
#define HALF_BITS (ES_FFT_BITS - 1)
#define TOP 29                /* bits of the greatest value that the transform takes */
#define POWER_SHIFT 13        /* bits of a power that its sums do without */
#define LN2 744261118         /* 30 bits after the point */
#define TENTH 429496730       /* 32 bits */
#define SPAN 5                /* rows that a delta is of */

static int32_t shifted(int64_t value, int bits)
{
    return (int32_t)((value + ((int64_t)1 << (bits - 1))) >> bits);
}

/* Bits up to the highest that is set. */
static int bits_of(uint64_t value)
{
    int result = 0;

    for (int step = 32; step > 0; step /= 2)
        if (value >> step) {
            value >>= step;
            result += step;
        }
    return result + (value != 0);
}

/* log2(value), 24 bits after the point; of 1 and more. */
static int32_t log2_of(uint64_t value)
{
    int bits = bits_of(value);
    uint64_t mantissa = value << (64 - bits); /* the highest bit is 1 */
    size_t index = (size_t)(mantissa >> 55) & 255;
    int64_t rest = (int64_t)((mantissa >> 31) & 0xFFFFFF); /* 24 bits */
    int64_t low = es_logarithm[index], step = es_logarithm[index + 1] - low;

    return ((bits - 1) << 24) + shifted((low << 24) + rest * step, 30);
}

static int32_t greatest(const int32_t *values, size_t count)
{
    int32_t result = 0;

    for (size_t i = 0; i < count; i++) {
        int32_t size = values[i] < 0 ? -values[i] : values[i];

        if (size > result)
            result = size;
    }
    return result;
}

/* The index after this one, where both are read with their bits turned round. */
static size_t next_turned(size_t index)
{
    size_t bit = HALF / 2;

    for (; index & bit; bit /= 2)
        index ^= bit;
    return index | bit;
}

/* The window, emphasized and weighted, as HALF complex points in the order that the transform
 * starts from: even samples real, odd ones imaginary. Returns the bits after the point; -1 for
 * silence. */
static int prepare(es_state *state, size_t count)
{
    const int16_t *raw = state->samples;
    int32_t *work = state->work;
    uint32_t peak = 0;

    for (size_t i = 0; i <= count; i++) {
        uint32_t size = (uint32_t)(raw[i] < 0 ? -raw[i] : raw[i]);

        if (size > peak)
            peak = size;
    }
    int bits = bits_of(peak);

    memset(work, 0, sizeof state->work);
    for (size_t i = 0, point = 0; i < count; i++) {
        int64_t high = (int64_t)raw[i + 1] * ((int64_t)1 << 30) - (int64_t)raw[i] * ES_PREEMPHASIS;
        int32_t value = shifted(high, bits + 1); /* below 2^30 */

        work[2 * point + i % 2] = shifted((int64_t)value * es_window[i], 31);
        if (i % 2)
            point = next_turned(point);
    }
    int32_t top = greatest(work, ES_FFT);

    if (top == 0)
        return -1;
    int up = TOP - bits_of((uint32_t)top);

    for (size_t i = 0; i < ES_FFT; i++)
        work[i] = up >= 0 ? work[i] * ((int32_t)1 << up) : work[i] >> -up;
    return 29 - bits + up;
}

/* (a * cosine + b * sine) / 2, of which the factors have 31 bits after the point. */
static int32_t half_turn(int32_t a, int32_t cosine, int32_t b, int32_t sine)
{
    return (int32_t)(((int64_t)a * cosine + (int64_t)b * sine) >> 32);
}

/* Cooley and Tukey's transform of HALF complex points, each stage halved. */
static void transform(int32_t *work)
{
    for (size_t half = 1; half < HALF; half *= 2)
        for (size_t j = 0; j < half; j++) {
            size_t angle = j * (HALF / half);
            int32_t cosine = es_sine[angle + ES_FFT / 4], sine = es_sine[angle];

            for (size_t i = j; i < HALF; i += 2 * half) {
                int32_t *a = work + 2 * i, *b = a + 2 * half;
                int32_t real = half_turn(b[0], cosine, b[1], sine);
                int32_t imaginary = half_turn(b[1], cosine, -b[0], sine);
                int32_t half_real = a[0] >> 1, half_imaginary = a[1] >> 1;

                a[0] = half_real + real;
                a[1] = half_imaginary + imaginary;
                b[0] = half_real - real;
                b[1] = half_imaginary - imaginary;
            }
        }
}

/* Power of one frequency of the real signal, in units of 2^POWER_SHIFT: of the transforms of its even
 * samples, which were the real parts, and of its odd ones, a turn further. */
static uint64_t power(const int32_t *work, size_t k)
{
    const int32_t *z = work + 2 * (k % HALF), *mirror = work + 2 * ((HALF - k) % HALF);
    int32_t odd_real = z[1] + mirror[1], odd_imaginary = mirror[0] - z[0]; /* twice */
    int32_t cosine = es_sine[k + ES_FFT / 4], sine = es_sine[k];
    int64_t real = (z[0] + mirror[0]) / 2 + half_turn(odd_real, cosine, odd_imaginary, sine);
    int64_t imaginary =
        (z[1] - mirror[1]) / 2 + half_turn(odd_imaginary, cosine, -odd_real, sine);

    return (uint64_t)(real * real + imaginary * imaginary) >> POWER_SHIFT;
}

/* Energies of the triangular filters, weights of 16 bits; returns the energy of everything. */
static uint64_t filter(const int32_t *work, uint64_t energies[ES_MELS])
{
    const uint16_t *rising = es_rising;
    uint64_t total = 0;
    size_t k = 0;

    memset(energies, 0, ES_MELS * sizeof energies[0]);
    for (; k < es_edges[0]; k++)
        total += power(work, k);
    for (size_t edge = 0; edge <= ES_MELS; edge++)
        for (; k < es_edges[edge + 1]; k++) {
            uint64_t here = power(work, k);
            uint32_t weight = *rising++;

            total += here;
            if (edge < ES_MELS)
                energies[edge] += here * weight;
            if (edge > 0)
                energies[edge - 1] += here * (65536 - weight);
        }
    for (; k <= HALF; k++)
        total += power(work, k);
    return total;
}

/* log2 of an energy of which 2^scale are 1, 24 bits, not below the floor. */
static int32_t level(uint64_t energy, int scale)
{
    int32_t result = energy ? log2_of(energy) - scale * ((int32_t)1 << 24) : ES_FLOOR;

    return result > ES_FLOOR ? result : ES_FLOOR;
}

/* Cepstra of the first `count` samples of the window in the state, silence after them. */
static void transformed(es_state *state, size_t count, int32_t cepstra[ES_CEPSTRA])
{
    int bits = prepare(state, count), scale = 0;
    uint64_t energies[ES_MELS] = {0}, total = 0;
    int32_t levels[ES_MELS];

    if (bits >= 0) {
        transform(state->work);
        total = filter(state->work, energies);
        scale = 2 * (bits - HALF_BITS) - POWER_SHIFT + ES_FFT_BITS;
    }
    for (size_t m = 0; m < ES_MELS; m++)
        levels[m] = level(energies[m], scale + 16);
    cepstra[0] = shifted((int64_t)level(total, scale) * LN2, 24 + 30 - ES_FEATURE_BITS);
    for (size_t n = 1; n < ES_CEPSTRA; n++) {
        int64_t sum = 0;

        for (size_t m = 0; m < ES_MELS; m++)
            sum += (int64_t)levels[m] * es_cepstral[n - 1][m];
        cepstra[n] = shifted(sum, 24 + ES_CEPSTRAL_BITS - ES_FEATURE_BITS);
    }
}

static size_t slot(uint32_t row)
{
    return row % SPAN;
}

/* Take a row of cepstra (0) or deltas (1); 1 if that made the delta of two rows before. What comes
 * before the first row repeats it. */
static int push(es_state *state, size_t order, const int32_t *row, int32_t *delta)
{
    int32_t(*rows)[ES_CEPSTRA] = state->rows[order];
    uint32_t count = state->row_count[order]++;

    for (size_t i = 0; i < SPAN; i++)
        if (count == 0 || i == slot(count))
            memcpy(rows[i], row, sizeof rows[i]);
    if (count < 2)
        return 0;
    const int32_t *last = rows[slot(count)], *next = rows[slot(count - 1)];
    const int32_t *before = rows[slot(count + 2)], *first = rows[slot(count + 1)];

    for (size_t n = 0; n < ES_CEPSTRA; n++) {
        int64_t sum = 2 * ((int64_t)last[n] - first[n]) + next[n] - before[n];

        delta[n] = shifted(sum * TENTH, 32);
    }
    return 1;
}

/* Take a row of deltas; 1 if that completed the row of features two deltas before. */
static int push_delta(es_state *state, const int32_t *row, int32_t features[ES_FEATURES])
{
    if (!push(state, 1, row, features + 2 * ES_CEPSTRA))
        return 0;
    uint32_t middle = state->row_count[1] - 3;

    memcpy(features, state->rows[0][slot(middle)], sizeof state->rows[0][0]);
    memcpy(features + ES_CEPSTRA, state->rows[1][slot(middle)], sizeof state->rows[1][0]);
    return 1;
}

static int push_cepstra(es_state *state, const int32_t *cepstra, int32_t features[ES_FEATURES])
{
    int32_t delta[ES_CEPSTRA];

    return push(state, 0, cepstra, delta) && push_delta(state, delta, features);
}

/* Take the window, of which `count` samples are there; 1 if that completed a row of features. */
static int take_window(es_state *state, size_t count, int32_t features[ES_FEATURES])
{
    int32_t cepstra[ES_CEPSTRA];

    transformed(state, count, cepstra);
    state->windows++;
    return push_cepstra(state, cepstra, features);
}

void es_features_reset(es_state *state)
{
    state->samples[0] = 0;
    state->filled = 0;
    state->windows = 0;
    state->row_count[0] = state->row_count[1] = 0;
}

size_t es_features_take(es_state *state, const int16_t *samples, size_t count,
                        int32_t features[ES_FEATURES], int *complete)
{
    size_t room = ES_WINDOW - state->filled, taken = count < room ? count : room;

    memcpy(state->samples + 1 + state->filled, samples, taken * sizeof samples[0]);
    state->filled += taken;
    *complete = 0;
    if (state->filled == ES_WINDOW) {
        *complete = take_window(state, ES_WINDOW, features);
        state->filled -= ES_HOP;
        memmove(state->samples, state->samples + ES_HOP, (1 + state->filled) * sizeof samples[0]);
    }
    return taken;
}

int es_features_rest(es_state *state, int32_t features[ES_FEATURES])
{
    int32_t last[ES_CEPSTRA];
    size_t filled = state->filled;
    uint32_t *rows = state->row_count;

    /* Samples that no window has covered yet, with silence after them. */
    state->filled = 0;
    if (filled > (state->windows ? ES_WINDOW - ES_HOP : 0) && take_window(state, filled, features))
        return 1;
    /* Two rows that repeat the last, of the cepstra and then of the deltas. */
    while (state->windows && rows[0] < state->windows + 2) {
        memcpy(last, state->rows[0][slot(rows[0] - 1)], sizeof last);
        if (push_cepstra(state, last, features))
            return 1;
    }
    while (state->windows && rows[1] < state->windows + 2) {
        memcpy(last, state->rows[1][slot(rows[1] - 1)], sizeof last);
        if (push_delta(state, last, features))
            return 1;
    }
    return 0;
}

void es_quantize(const int32_t features[ES_FEATURES], int8_t frame[ES_FEATURES])
{
    for (size_t i = 0; i < ES_FEATURES; i++) {
        int64_t exact = (int64_t)features[i] * es_gain[i] + es_offset[i];
        int64_t half = (int64_t)1 << (ES_GAIN_BITS + ES_FEATURE_BITS - 1);
        int64_t steps = (exact + half) >> (ES_GAIN_BITS + ES_FEATURE_BITS);

        frame[i] = (int8_t)(steps < INT8_MIN ? INT8_MIN : steps > INT8_MAX ? INT8_MAX : steps);
    }
}
