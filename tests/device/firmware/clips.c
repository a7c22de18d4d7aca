/* Reads the clips that clips.txt names, raw int16, in pieces of 10 ms as a microphone gives them, and
 * prints for each: name, samples, millionths of each score, ticks of the whole, and the most ticks
 * of one piece. */
#include <stdio.h>

#include "edge_emotion.h"

uint64_t ticks(void);

static es_state state;

static int hear(const char *name)
{
    int16_t piece[ES_HOP];
    float scores[ES_LABELS] = {0};
    unsigned long total = 0, most = 0, samples = 0, took;
    uint64_t begin;
    size_t count;
    FILE *file = fopen(name, "rb");

    if (!file)
        return 1;
    while ((count = fread(piece, sizeof piece[0], ES_HOP, file)) > 0) {
        begin = ticks();
        es_feed(&state, piece, count);
        took = (unsigned long)(ticks() - begin);
        total += took;
        most = took > most ? took : most;
        samples += (unsigned long)count;
    }
    fclose(file);
    begin = ticks();
    if (!es_end_utterance(&state, scores))
        return 1;
    took = (unsigned long)(ticks() - begin);
    printf("%s %lu", name, samples);
    for (int i = 0; i < ES_LABELS; i++)
        printf(" %ld", (long)(1e6F * scores[i] + 0.5F));
    printf(" %d %lu %lu %lu\n", es_label(scores), total, most, took);
    return 0;
}

int main(void)
{
    char name[64];
    FILE *list = fopen("clips.txt", "r");
    int failed = !list;

    es_init(&state);
    while (list && fscanf(list, "%63s", name) == 1)
        failed |= hear(name);
    printf("state %lu\n", (unsigned long)sizeof state);
    return failed;
}
