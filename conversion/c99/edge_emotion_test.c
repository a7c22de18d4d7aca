/* Holds the library against the golden vectors, on whatever it was compiled for: 0 if they agree.
 *
 *     cc -std=c99 -O2 -I.. ../edge_emotion*.c edge_emotion*.c -o golden && ./golden
 */
#include <stdio.h>
#include <string.h>

#include "edge_emotion_golden.h"
#include "edge_emotion_parts.h"

static es_state state;
static int failures;

static void report(const char *what, long found, long bound)
{
    int fine = found <= bound;

    printf("%s: %ld, at most %ld: %s\n", what, found, bound, fine ? "passed" : "FAILED");
    failures += !fine;
}

static long apart(long a, long b)
{
    return a > b ? a - b : b - a;
}

static long greatest_apart(const int8_t *a, const int8_t *b, size_t count)
{
    long result = 0;

    for (size_t i = 0; i < count; i++)
        if (apart(a[i], b[i]) > result)
            result = apart(a[i], b[i]);
    return result;
}

static long worst_feature, steps_apart, values_apart;

static void compare(size_t row, const int32_t features[ES_FEATURES])
{
    int8_t frame[ES_FEATURES];

    if (row >= ES_GOLDEN_FRAMES)
        return;
    es_quantize(features, frame);
    for (size_t i = 0; i < ES_FEATURES; i++) {
        long steps = apart(frame[i], es_golden_frames[row][i]);

        values_apart += steps > 0;
        if (steps > steps_apart)
            steps_apart = steps;
        if (row < ES_GOLDEN_ROWS && apart(features[i], es_golden_features[row][i]) > worst_feature)
            worst_feature = apart(features[i], es_golden_features[row][i]);
    }
}

static void front_end(void)
{
    int32_t features[ES_FEATURES];
    const int16_t *samples = es_golden_samples;
    size_t left = ES_GOLDEN_SAMPLES, rows = 0;
    int complete;

    es_init(&state);
    while (left > 0) {
        size_t taken = es_features_take(&state, samples, left, features, &complete);

        samples += taken;
        left -= taken;
        if (complete)
            compare(rows++, features);
    }
    while (es_features_rest(&state, features))
        compare(rows++, features);
    report("features: rows too many or too few", apart((long)rows, ES_GOLDEN_FRAMES), 0);
    report("features: largest difference", worst_feature, ES_GOLDEN_FEATURES_APART);
    report("frames: steps apart", steps_apart, 1);
    report("frames: values a step apart", values_apart, ES_GOLDEN_VALUES_APART);
}

/* Two runs: the second makes what is fresh alone. */
static void encoder(void)
{
    long worst = 0;

    es_init(&state);
    for (size_t run = 0; run < ES_GOLDEN_RUNS; run++) {
        memcpy(state.frames, es_golden_frames[run * ES_CHUNK], sizeof state.frames);
        es_encode(&state);
        state.steps += ES_CHUNK / ES_STRIDE;
        for (size_t scale = 0; scale < ES_SCALES; scale++)
            for (size_t step = 0; step < ES_CHUNK / ES_STRIDE; step++) {
                const es_maps *maps = &es_scales[scale];
                long found = greatest_apart(state.arena + maps->offset + step * maps->stride,
                                            es_golden_maps[run][scale][step], ES_FILTERS);

                worst = found > worst ? found : worst;
            }
    }
    report("encoder: steps apart", worst, 0);
}

static void head(void)
{
    memcpy(state.arena + ES_POOLED, es_golden_pooled, sizeof es_golden_pooled);
    es_run(es_head, ES_HEAD_LAYERS, NULL, state.arena + ES_HEAD, 0);
    report("head: steps apart",
           greatest_apart(state.arena + ES_LOGITS, es_golden_logits, ES_LABELS), 0);
}

static void utterance(void)
{
    float scores[ES_LABELS], whole[ES_LABELS];
    long worst = 0;
    int best = 0;

    es_init(&state);
    es_feed(&state, es_golden_samples, ES_GOLDEN_SAMPLES);
    report("utterance: without a verdict", !es_end_utterance(&state, whole), 0);
    for (size_t i = 0; i < ES_GOLDEN_SAMPLES; i += 7)
        es_feed(&state, es_golden_samples + i, ES_GOLDEN_SAMPLES - i < 7 ? ES_GOLDEN_SAMPLES - i : 7);
    report("utterance: partial verdict", !es_scores(&state, scores), 0);
    report("utterance: without a verdict in pieces", !es_end_utterance(&state, scores), 0);
    report("utterance: other scores in pieces", memcmp(scores, whole, sizeof scores) != 0, 0);
    for (int i = 0; i < ES_LABELS; i++) {
        long off = apart((long)(1e6F * scores[i]), (long)(1e6F * es_golden_scores[i]));

        worst = off > worst ? off : worst;
        best = es_golden_scores[i] > es_golden_scores[best] ? i : best;
        printf("  %s %ld millionths\n", es_labels[i], (long)(1e6F * scores[i]));
    }
    report("utterance: scores, millionths apart", worst, ES_GOLDEN_SCORES_APART);
    report("utterance: another label",
           es_label(scores) != (es_golden_scores[best] < ES_THRESHOLD ? ES_UNSURE : best), 0);
    report("nothing heard: a verdict", es_end_utterance(&state, scores), 0);
}

int main(void)
{
    printf("es_state: %lu bytes\n", (unsigned long)sizeof state);
    front_end();
    encoder();
    head();
    utterance();
    printf("golden vectors: %s\n", failures ? "FAILED" : "passed");
    return failures != 0;
}
