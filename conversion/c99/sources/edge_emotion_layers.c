/* Layers of int8, to the bit what the reference kernels of TensorFlow Lite compute. */
#include "edge_emotion_parts.h"

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#include <arm_mve.h>
#elif defined(__ARM_FEATURE_SIMD32)
#include <arm_acle.h>
#define PAIRS 1 /* of 16 bits are multiplied at a time */
#endif

#define AT_A_TIME 4 /* filters that share what is read of the source, or rows that share weights */

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)

/* Add the products of `length` values with those of four filters, `pitch` apart. */
static void dot(const int8_t *x, const int8_t *w, size_t pitch, size_t length, int32_t sums[])
{
    int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    const int8_t *w1 = w + pitch, *w2 = w1 + pitch, *w3 = w2 + pitch;

    for (size_t i = length / 16; i > 0; i--) {
        int8x16_t v = vld1q_s8(x);

        a = vmladavaq_s8(a, v, vld1q_s8(w));
        b = vmladavaq_s8(b, v, vld1q_s8(w1));
        c = vmladavaq_s8(c, v, vld1q_s8(w2));
        d = vmladavaq_s8(d, v, vld1q_s8(w3));
        x += 16, w += 16, w1 += 16, w2 += 16, w3 += 16;
    }
    if (length % 16) {
        mve_pred16_t some = vctp8q((uint32_t)length % 16);
        int8x16_t v = vld1q_z_s8(x, some);

        a = vmladavaq_s8(a, v, vld1q_z_s8(w, some));
        b = vmladavaq_s8(b, v, vld1q_z_s8(w1, some));
        c = vmladavaq_s8(c, v, vld1q_z_s8(w2, some));
        d = vmladavaq_s8(d, v, vld1q_z_s8(w3, some));
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}

#else

static void dot(const int8_t *x, const int8_t *w, size_t pitch, size_t length, int32_t sums[])
{
    int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    const int8_t *w1 = w + pitch, *w2 = w1 + pitch, *w3 = w2 + pitch;

    for (size_t i = 0; i < length; i++) {
        int16_t value = x[i];

        a += value * (int16_t)w[i];
        b += value * (int16_t)w1[i];
        c += value * (int16_t)w2[i];
        d += value * (int16_t)w3[i];
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}

#endif

/* a * b / 2^31, rounded to the nearest, as gemmlowp has it. */
static int32_t high_product(int32_t a, int32_t b)
{
    int64_t product = (int64_t)a * b;
    int64_t nudge = product >= 0 ? (int64_t)1 << 30 : 1 - ((int64_t)1 << 30);

    return (int32_t)((product + nudge) / ((int64_t)1 << 31));
}

/* A sum in steps of the source and the weights, in steps of the target. */
static int32_t rescale(int32_t sum, int32_t multiplier, int shift)
{
    int left = shift > 0 ? shift : 0, right = shift > 0 ? 0 : -shift;
    int32_t value = high_product((int32_t)((uint32_t)sum << left), multiplier);
    int32_t mask = (int32_t)(((int64_t)1 << right) - 1);
    int32_t rest = value & mask, half = (mask >> 1) + (value < 0);

    return (value >> right) + (rest > half);
}

static int8_t finished(const es_layer *layer, size_t filter, int32_t sum)
{
    int32_t value = layer->zero + rescale(sum, layer->multiplier[filter], layer->shift[filter]);

    if (value < layer->low)
        value = layer->low;
    return (int8_t)(value > INT8_MAX ? INT8_MAX : value);
}

static void run(const es_layer *layer, size_t rows, const int8_t *source, int8_t *target)
{
    size_t pitch = (size_t)layer->taps * layer->length;

    for (size_t filter = 0, count; filter < layer->filters; filter += count) {
        /* Of fewer than four that are left, each is computed four times and written once. */
        count = layer->filters - filter < AT_A_TIME ? 1 : AT_A_TIME;
        size_t apart = count == 1 ? 0 : pitch;

        for (size_t row = 0; row < rows; row++) {
            const int8_t *x = source + row * layer->step;
            const int8_t *w = layer->weights + filter * pitch;
            int32_t sums[AT_A_TIME] = {0};

            for (size_t j = 0; j < count; j++)
                sums[j] = layer->bias[filter + j];
            for (size_t tap = 0; tap < layer->taps; tap++) {
                dot(x, w, apart, layer->length, sums);
                x += layer->tap_step;
                w += layer->length;
            }
            for (size_t j = 0; j < count; j++)
                target[row * layer->stride + filter + j] = finished(layer, filter + j, sums[j]);
        }
    }
}

#ifdef PAIRS

#define STRETCH 256 /* bytes of four rows that are spread out at a time */

/* Four bytes, wherever they lie. */
typedef struct __attribute__((packed, may_alias)) {
    uint32_t bytes;
} packed_word;

static inline uint32_t word(const int8_t *bytes)
{
    return ((const packed_word *)(const void *)bytes)->bytes;
}

/* Bytes 0 and 2, or 1 and 3, of a word as two int16. */
static inline int16x2_t even(uint32_t bytes)
{
    return __sxtb16((int8x4_t)bytes);
}

static inline int16x2_t odd(uint32_t bytes)
{
    int16x2_t result;

    __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(bytes));
    return result;
}

/* Four rows of `length` bytes, `step` apart, as pairs of int16, side by side. Rows beyond `count`
 * repeat the first. */
static void spread(const int8_t *x, size_t step, size_t count, size_t length, int16x2_t *pairs)
{
    for (size_t row = 0; row < AT_A_TIME; row++) {
        const int8_t *from = x + (row < count ? row * step : 0);
        int16x2_t *to = pairs + 2 * row;

        for (size_t i = 0; i < length; i += 4, to += 2 * AT_A_TIME) {
            uint32_t bytes = word(from + i);

            to[0] = even(bytes);
            to[1] = odd(bytes);
        }
    }
}

/* Add the products of the weights of one filter with those of four rows. */
static void dot_rows(const int16x2_t *x, const int8_t *w, size_t length, int32_t sums[])
{
    int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];

    for (const int8_t *end = w + length; w < end; w += 4, x += 2 * AT_A_TIME) {
        uint32_t bytes = word(w);
        int16x2_t first = even(bytes), second = odd(bytes);

        a = __smlad(x[1], second, __smlad(x[0], first, a));
        b = __smlad(x[3], second, __smlad(x[2], first, b));
        c = __smlad(x[5], second, __smlad(x[4], first, c));
        d = __smlad(x[7], second, __smlad(x[6], first, d));
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}

/* As `run`, for layers of several rows and of whole words. */
static void run_rows(const es_layer *layer, size_t rows, const int8_t *source, int8_t *target)
{
    static int16x2_t pairs[2 * AT_A_TIME * STRETCH / 4];
    static int32_t sums[ES_MOST_FILTERS][AT_A_TIME];
    size_t pitch = (size_t)layer->taps * layer->length;

    for (size_t row = 0; row < rows; row += AT_A_TIME) {
        size_t left = rows - row, count = left < AT_A_TIME ? left : AT_A_TIME;

        for (size_t filter = 0; filter < layer->filters; filter++)
            for (size_t j = 0; j < AT_A_TIME; j++)
                sums[filter][j] = layer->bias[filter];
        for (size_t tap = 0; tap < layer->taps; tap++)
            for (size_t begin = 0, some; begin < layer->length; begin += some) {
                const int8_t *w = layer->weights + tap * layer->length + begin;

                some = layer->length - begin < STRETCH ? layer->length - begin : STRETCH;
                spread(source + row * layer->step + tap * layer->tap_step + begin, layer->step,
                       count, some, pairs);
                for (size_t filter = 0; filter < layer->filters; filter++, w += pitch)
                    dot_rows(pairs, w, some, sums[filter]);
            }
        for (size_t j = 0; j < count; j++)
            for (size_t filter = 0; filter < layer->filters; filter++)
                target[(row + j) * layer->stride + filter] =
                    finished(layer, filter, sums[filter][j]);
    }
}

#endif

void es_run(const es_layer *layers, size_t count, const int8_t *input, int8_t *arena, int again)
{
    for (size_t i = 0; i < count; i++) {
        const es_layer *layer = &layers[i];
        size_t rows = again ? layer->fresh : layer->rows, there = layer->rows - rows;
        const int8_t *base = layer->from_input ? input : arena;
        const int8_t *source = base + layer->source + there * layer->step;
        int8_t *target = arena + layer->target + there * layer->stride;

#ifdef PAIRS
        if (rows > 1 && layer->length % 4 == 0 && layer->filters <= ES_MOST_FILTERS) {
            run_rows(layer, rows, source, target);
            continue;
        }
#endif
        run(layer, rows, source, target);
    }
}
