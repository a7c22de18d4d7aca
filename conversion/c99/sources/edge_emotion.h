/* Speech in, emotion out, on a microcontroller: static memory only, no heap, no floating point but
 * for the scores.
 *
 *     static es_state state;
 *     float scores[ES_LABELS];
 *
 *     es_init(&state);
 *     while (speech goes on) es_feed(&state, samples, count);
 *     if (es_end_utterance(&state, scores)) show(es_label(scores));
 *
 * Samples are mono, 16 bits, ES_SAMPLE_RATE a second. Where an utterance begins and ends is for the
 * caller to say: a push of a button, a wake word, or the level of the sound.
 */
#ifndef EDGE_EMOTION_H
#define EDGE_EMOTION_H

#include <stddef.h>
#include <stdint.h>

#include "edge_emotion_model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ES_UNSURE (-1) /* no class is likely enough */

/* One utterance on its way; of no meaning to the caller. */
typedef struct {
    int16_t samples[1 + ES_WINDOW];      /* the one before the window, and the window */
    size_t filled;                       /* of the window */
    uint32_t windows;                    /* transformed so far */
    int32_t work[ES_FFT];                /* a window in time, then in frequency */
    int32_t rows[2][5][ES_CEPSTRA];      /* the last cepstra, and the last deltas */
    uint32_t row_count[2];               /* that came so far */
    int8_t frames[ES_FRAMES][ES_FEATURES]; /* what the encoder sees */
    size_t frame_count;                  /* of them */
    int16_t maximum[ES_CHANNELS];        /* statistics of the maps */
    int32_t sum[ES_CHANNELS];
    uint64_t squares[ES_CHANNELS];
    uint32_t steps; /* that the statistics are of */
    int8_t arena[ES_ARENA];
} es_state;

/* The names of the classes, in the order of the scores. */
extern const char *const es_labels[ES_LABELS];

/* Begin. A state may be used again after es_end_utterance without this. */
void es_init(es_state *state);

/* Take the next samples of the utterance, as many as there are. Every ES_CHUNK frames the encoder
 * runs, which takes longest; of an utterance beyond ES_MOST_STEPS steps the rest does not count. */
void es_feed(es_state *state, const int16_t *samples, size_t count);

/* Probabilities so far; 0, and none, before the first ES_CHUNK frames are there. */
int es_scores(es_state *state, float scores[ES_LABELS]);

/* Close the utterance: its probabilities; 0, and none, if it had no sample. The state is then ready
 * for the next utterance. */
int es_end_utterance(es_state *state, float scores[ES_LABELS]);

/* The most likely class, or ES_UNSURE below the threshold of the bundle. */
int es_label(const float scores[ES_LABELS]);

#ifdef __cplusplus
}
#endif

#endif
