/* Utterances: frames to the encoder, maps to statistics, statistics to scores. */
#include "edge_emotion.h"

#include <string.h>

#include "edge_emotion_parts.h"

/* The frames before the first are silence, which is zero after normalization. */
static void silence(es_state *state, size_t begin, size_t end)
{
    memset(state->frames[begin], ES_SILENCE, (end - begin) * ES_FEATURES);
}

void es_init(es_state *state)
{
    es_features_reset(state);
    silence(state, 0, ES_CONTEXT);
    state->frame_count = ES_CONTEXT;
    state->steps = 0;
    for (size_t i = 0; i < ES_CHANNELS; i++) {
        state->maximum[i] = INT16_MIN;
        state->sum[i] = 0;
        state->squares[i] = 0;
    }
}

void es_encode(es_state *state)
{
    int again = state->steps > 0;

    for (size_t i = 0; again && i < ES_KEPT; i++) {
        int8_t *rows = state->arena + es_kept[i].offset;

        memmove(rows, rows + es_kept[i].shift, es_kept[i].size);
    }
    es_run(es_encoder, ES_ENCODER_LAYERS, state->frames[0], state->arena, again);
}

/* Run the encoder over the frames, of which the first ES_CHUNK behind the context end at `valid`,
 * and take its maps into the statistics. */
static void pool(es_state *state, size_t valid)
{
    uint32_t steps = (uint32_t)((valid + ES_STRIDE - 1) / ES_STRIDE);

    if (state->steps + steps > ES_MOST_STEPS)
        return;
    es_encode(state);
    for (size_t channel = 0; channel < ES_CHANNELS; channel++) {
        const es_maps *maps = &es_scales[channel / ES_FILTERS];
        const int8_t *map = state->arena + maps->offset + channel % ES_FILTERS;

        for (uint32_t step = 0; step < steps; step++, map += maps->stride) {
            int16_t value = (int16_t)(*map - maps->zero);

            if (value > state->maximum[channel])
                state->maximum[channel] = value;
            state->sum[channel] += value;
            state->squares[channel] += (uint64_t)(value * value);
        }
    }
    state->steps += steps;
}

/* Forget the first frames, up to ES_CHUNK. */
static void drop(es_state *state)
{
    size_t dropped = state->frame_count < ES_CHUNK ? state->frame_count : ES_CHUNK;

    state->frame_count -= dropped;
    memmove(state->frames[0], state->frames[dropped], state->frame_count * ES_FEATURES);
}

static void take(es_state *state, const int32_t features[ES_FEATURES])
{
    es_quantize(features, state->frames[state->frame_count++]);
    if (state->frame_count == ES_FRAMES) {
        pool(state, ES_CHUNK);
        drop(state);
    }
}

void es_feed(es_state *state, const int16_t *samples, size_t count)
{
    int32_t features[ES_FEATURES];
    int complete;

    while (count > 0) {
        size_t taken = es_features_take(state, samples, count, features, &complete);

        samples += taken;
        count -= taken;
        if (complete)
            take(state, features);
    }
}

/* value^0.5, rounded down. */
static uint64_t root(uint64_t value)
{
    uint64_t result = 0, bit = (uint64_t)1 << 62;

    for (; bit; bit >>= 2) {
        int more = value >= result + bit;

        if (more)
            value -= result + bit;
        result = (result >> 1) + (more ? bit : 0);
    }
    return result;
}

/* Maximum (0), mean (1) or standard deviation (2) of a channel, 24 bits after the point. */
static int64_t statistic(const es_state *state, size_t which, size_t channel)
{
    int64_t count = state->steps, sum = state->sum[channel];

    if (which == 0)
        return state->maximum[channel] * ((int64_t)1 << 24);
    if (which == 1)
        return sum * ((int64_t)1 << 24) / count;
    uint64_t squared = (uint64_t)(count * count);
    uint64_t spread = (uint64_t)count * state->squares[channel] - (uint64_t)(sum * sum);
    uint64_t variance = ((spread / squared) << 24) + ((spread % squared) << 24) / squared;

    return (int64_t)root((variance + (uint64_t)es_epsilon[channel / ES_FILTERS]) << 24);
}

void es_standardize(es_state *state)
{
    int8_t *pooled = state->arena + ES_POOLED;

    for (size_t i = 0; i < 3 * ES_CHANNELS; i++) {
        size_t scale = i / (3 * ES_FILTERS), which = i / ES_FILTERS % 3;
        int64_t value = statistic(state, which, scale * ES_FILTERS + i % ES_FILTERS);
        int64_t product = value * es_standard_gain[i];
        int64_t exact = (product >> (ES_STANDARD_BITS + 24 - 20)) + es_standard_offset[i];
        int64_t steps = (exact + ((int64_t)1 << 19)) >> 20;

        pooled[i] = (int8_t)(steps < INT8_MIN ? INT8_MIN : steps > INT8_MAX ? INT8_MAX : steps);
    }
}

int es_scores(es_state *state, float scores[ES_LABELS])
{
    const int8_t *logits = state->arena + ES_LOGITS;
    int highest = INT8_MIN;
    uint32_t total = 0;

    if (state->steps == 0)
        return 0;
    es_standardize(state);
    es_run(es_head, ES_HEAD_LAYERS, NULL, state->arena + ES_HEAD, 0);
    for (size_t i = 0; i < ES_LABELS; i++)
        if (logits[i] > highest)
            highest = logits[i];
    for (size_t i = 0; i < ES_LABELS; i++)
        total += es_exponential[highest - logits[i]];
    for (size_t i = 0; i < ES_LABELS; i++)
        scores[i] = (float)es_exponential[highest - logits[i]] / (float)total;
    return 1;
}

int es_end_utterance(es_state *state, float scores[ES_LABELS])
{
    int32_t features[ES_FEATURES];
    int found;

    while (es_features_rest(state, features))
        take(state, features);
    while (state->frame_count > ES_CONTEXT) {
        size_t left = state->frame_count - ES_CONTEXT;

        silence(state, state->frame_count, ES_FRAMES);
        pool(state, left < ES_CHUNK ? left : ES_CHUNK);
        drop(state);
    }
    found = es_scores(state, scores);
    es_init(state);
    return found;
}

int es_label(const float scores[ES_LABELS])
{
    int best = 0;

    for (int i = 1; i < ES_LABELS; i++)
        if (scores[i] > scores[best])
            best = i;
    return scores[best] < ES_THRESHOLD ? ES_UNSURE : best;
}
