/* What the files of the library, and its test, share; of no use to others. */
#ifndef EDGE_EMOTION_PARTS_H
#define EDGE_EMOTION_PARTS_H

#include "edge_emotion.h"

/* Rows of int8 times weights, plus a bias, back to int8. */
typedef struct {
    const int8_t *weights;     /* filters, each of taps * length */
    const int32_t *bias;       /* of each filter */
    const int32_t *multiplier; /* of each filter, 31 bits after the point */
    const int8_t *shift;       /* of each filter, powers of two */
    uint32_t source;           /* bytes into the input, or into the arena */
    uint32_t target;           /* bytes into the arena */
    uint16_t from_input;       /* whether the source is the input */
    uint16_t rows;
    uint16_t fresh;    /* the last of those that the run before has not made */
    uint16_t step;     /* bytes of the source from one row to the next */
    uint16_t taps;     /* stretches of the source that a row sees */
    uint16_t tap_step; /* bytes from one to the next */
    uint16_t length;   /* bytes of one */
    uint16_t filters;
    uint16_t stride; /* bytes of the target from one row to the next */
    int16_t zero;    /* zero point of the target */
    int16_t low;     /* its least value */
} es_layer;

/* Where the maps of one scale lie in the arena after the encoder has run. */
typedef struct {
    uint32_t offset;
    uint16_t stride; /* bytes from one step to the next */
    int16_t zero;    /* zero point */
} es_maps;

/* Rows in the arena that the next run of the encoder needs again. */
typedef struct {
    uint32_t offset;
    uint32_t shift; /* bytes that they move towards the front */
    uint32_t size;  /* bytes that they are */
} es_rows;

extern const int32_t es_window[ES_WINDOW];          /* 31 bits after the point */
extern const int32_t es_sine[3 * ES_FFT / 4 + 1];   /* 31 bits, three quarters of a turn */
extern const uint16_t es_edges[ES_MELS + 2];        /* bins at the edges of the filters */
extern const uint16_t es_rising[];                  /* 16 bits, of each bin between the edges */
extern const int32_t es_logarithm[257];             /* log2(1 + i / 256), 30 bits */
extern const int32_t es_cepstral[ES_CEPSTRA - 1][ES_MELS]; /* ES_CEPSTRAL_BITS */
extern const int32_t es_gain[ES_FEATURES];          /* ES_GAIN_BITS */
extern const int64_t es_offset[ES_FEATURES];        /* ES_GAIN_BITS + ES_FEATURE_BITS */

extern const es_layer es_encoder[ES_ENCODER_LAYERS];
extern const es_layer es_head[ES_HEAD_LAYERS];
extern const es_maps es_scales[ES_SCALES];
extern const es_rows es_kept[ES_KEPT];

extern const int32_t es_standard_gain[3 * ES_CHANNELS];   /* ES_STANDARD_BITS */
extern const int32_t es_standard_offset[3 * ES_CHANNELS]; /* 20 bits */
extern const int64_t es_epsilon[ES_SCALES];               /* 24 bits */
extern const uint32_t es_exponential[256];                /* 24 bits, by steps of a logit */

/* Forget the samples so far. */
void es_features_reset(es_state *state);

/* Take samples, at most to the end of a window: how many. `complete` says whether that made a row of
 * features, ES_FEATURE_BITS after the point. */
size_t es_features_take(es_state *state, const int16_t *samples, size_t count,
                        int32_t features[ES_FEATURES], int *complete);

/* After the last sample, one of the rows that are left; 0 if there is none. Then reset. */
int es_features_rest(es_state *state, int32_t features[ES_FEATURES]);

/* A row of features as int8. */
void es_quantize(const int32_t features[ES_FEATURES], int8_t frame[ES_FEATURES]);

/* Run layers; with `again` the fresh rows alone: the others are there. */
void es_run(const es_layer *layers, size_t count, const int8_t *input, int8_t *arena, int again);

/* Run the encoder over the frames of the state, which have moved on by ES_CHUNK since the last run of
 * the utterance. */
void es_encode(es_state *state);

/* Statistics to the input of the head, in the arena. */
void es_standardize(es_state *state);

#endif
