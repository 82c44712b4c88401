/* bench_tokenizer.c - a tokenizer's speed on a file, and its answers for bench/compare_tokenizers.py.
 *
 *     bench_tokenizer DIR FILE [ROUNDS]       MB/s of encoding the file's lines, one thread, best of so many
 * rounds bench_tokenizer DIR --answers IN OUT    IN: strings as u32 length and bytes; OUT: for each u32
 * count, the ids, then u32 length and bytes of their decoding
 *
 * Special tokens in the text count as such, and nothing is put around it: tokenizers' encode(text,
 * add_special_tokens=False).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/data/tokenizer.h"

static void must(int rc, const qs_err *e)
{
    if (!rc) return;
    fprintf(stderr, "%s\n", e->text);
    exit(1);
}

static void put(FILE *f, const void *data, size_t bytes)
{
    uint32_t n = (uint32_t)bytes;
    fwrite(&n, sizeof n, 1, f);
    fwrite(data, 1, bytes, f);
}

static void answer(qs_tokenizer *t, const char *in, const char *out, qs_err *e)
{
    char *text;
    size_t bytes;
    must(qs_file_read(in, (size_t)1 << 30, &text, &bytes, e), e);
    FILE *f = fopen(out, "wb");
    if (!f) exit(1);
    qs_ids ids = {0};
    for (size_t at = 0; at + 4 <= bytes;) {
        uint32_t n;
        memcpy(&n, text + at, 4);
        ids.count = 0;
        must(qs_tokenizer_encode(t, text + at + 4, n, QS_ENCODE_SPECIAL, &ids, e), e);
        uint32_t count = (uint32_t)ids.count;
        size_t decoded_bytes;
        char *decoded = qs_tokenizer_decode(t, ids.data, ids.count, 0, &decoded_bytes);
        fwrite(&count, sizeof count, 1, f);
        fwrite(ids.data, sizeof *ids.data, ids.count, f);
        put(f, decoded, decoded_bytes);
        qs_free(decoded);
        at += 4 + n;
    }
    fclose(f);
    qs_ids_free(&ids);
    qs_free(text);
}

/* Lines as rows of a data set would be: one call each. */
static double megabytes_per_second(qs_tokenizer *t, const char *text, size_t bytes, size_t *tokens, qs_err *e)
{
    qs_ids ids = {0};
    uint64_t start = qs_now_ns();
    *tokens = 0;
    for (const char *at = text, *end = text + bytes; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at)), *next = stop ? stop + 1 : end;
        ids.count = 0;
        must(qs_tokenizer_encode(t, at, (size_t)(next - at), QS_ENCODE_SPECIAL, &ids, e), e);
        *tokens += ids.count;
        at = next;
    }
    double seconds = qs_seconds(qs_now_ns() - start);
    qs_ids_free(&ids);
    return (double)bytes * 1e-6 / seconds;
}

int main(int argc, char **argv)
{
    qs_err e = {0};
    qs_tokenizer *t;
    if (argc < 3)
        return fprintf(stderr, "usage: bench_tokenizer DIR FILE [ROUNDS] | DIR --answers IN OUT\n"), 2;
    must(qs_tokenizer_open(argv[1], &t, &e), &e);
    if (!strcmp(argv[2], "--answers") && argc == 5) {
        answer(t, argv[3], argv[4], &e);
    } else {
        char *text;
        size_t bytes, tokens = 0;
        double best = 0;
        must(qs_file_read(argv[2], (size_t)1 << 30, &text, &bytes, &e), &e);
        for (int i = 0; i < (argc > 3 ? atoi(argv[3]) : 5); i++) {
            double rate = megabytes_per_second(t, text, bytes, &tokens, &e);
            if (rate > best) best = rate;
        }
        printf("%.2f MB/s, %zu tokens\n", best, tokens);
        qs_free(text);
    }
    qs_tokenizer_close(t);
    return 0;
}
