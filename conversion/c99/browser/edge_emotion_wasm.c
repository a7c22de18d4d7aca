/* The library for a page: one utterance at a time, samples and scores in memory that both see. */
#include "edge_emotion.h"

#define EXPORT(name) __attribute__((export_name(name)))
#define ROOM 4096 /* samples at a time */

static es_state state;
static int16_t samples[ROOM];
static float scores[ES_LABELS];

EXPORT("room") size_t wasm_room(void);
EXPORT("samples") int16_t *wasm_samples(void);
EXPORT("scores") float *wasm_scores(void);
EXPORT("begin") void wasm_begin(void);
EXPORT("feed") void wasm_feed(size_t count);
EXPORT("partial") int wasm_partial(void);
EXPORT("end") int wasm_end(void);
EXPORT("label") int wasm_label(void);

size_t wasm_room(void)
{
    return ROOM;
}

int16_t *wasm_samples(void)
{
    return samples;
}

float *wasm_scores(void)
{
    return scores;
}

void wasm_begin(void)
{
    es_init(&state);
}

void wasm_feed(size_t count)
{
    es_feed(&state, samples, count);
}

int wasm_partial(void)
{
    return es_scores(&state, scores);
}

int wasm_end(void)
{
    return es_end_utterance(&state, scores);
}

int wasm_label(void)
{
    return es_label(scores);
}
