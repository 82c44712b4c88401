#include "src/data/record_reader.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "src/base/memory.h"

struct qs_record_reader {
    FILE *file;
    char *path;
    qs_record_format format;
    bool started;      /* past the "[" of an array */
    bool ended;        /* past its "]" */
    int64_t line;      /* of the next byte */
    uint64_t done, of; /* bytes */
    char *text;
    size_t bytes, capacity;
};

static const char separator[] = "<|endoftext|>";

static int next_byte(qs_record_reader *r)
{
    int c = getc_unlocked(r->file);
    if (c == EOF) return EOF;
    r->done++;
    if (c == '\n') r->line++;
    return c;
}

static void append(qs_record_reader *r, int c)
{
    if (r->bytes + 1 >= r->capacity) {
        r->capacity = r->capacity ? 2 * r->capacity : 4096;
        r->text = qs_realloc(r->text, r->capacity);
    }
    r->text[r->bytes++] = (char)c;
    r->text[r->bytes] = 0;
}

static bool is_space(int c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static int skip_space(qs_record_reader *r)
{
    int c;
    do c = next_byte(r);
    while (is_space(c));
    return c;
}

static int read_failed(const qs_record_reader *r, qs_err *e)
{
    if (ferror(r->file)) QS_FAIL(e, QS_EIO, "%s: read failed near line %lld: %s", r->path, (long long)r->line, strerror(errno));
    return 0;
}

/* Reads a JSON object that begins with `c` up to its closing bracket, strings respected. With one_line a newline ends it
 * too: what is wrong with it is then found by the parser, on its own line. */
static int read_value(qs_record_reader *r, int c, bool one_line, qs_err *e)
{
    int64_t first_line = r->line;
    int depth = 0;
    bool string = false, escaped = false;
    for (r->bytes = 0;; c = next_byte(r)) {
        QS_TRY(read_failed(r, e));
        if (c == EOF || (one_line && c == '\n')) break;
        if (r->bytes >= QS_RECORD_MAX_BYTES)
            QS_FAIL(e, QS_EFORMAT, "%s:%lld: this record is longer than %d MiB; expected one JSON object per sample", r->path,
                    (long long)first_line, QS_RECORD_MAX_BYTES >> 20);
        append(r, c);
        if (string) {
            if (escaped) escaped = false;
            else if (c == '\\') escaped = true;
            else if (c == '"') string = false;
            continue;
        }
        if (c == '"') string = true;
        else if (c == '{' || c == '[') depth++;
        else if ((c == '}' || c == ']') && --depth <= 0) return 0;
        else if (depth == 0) break;
    }
    if (one_line) return 0;
    QS_FAIL(e, QS_EFORMAT, "%s:%lld: expected a complete JSON object, found %s", r->path, (long long)first_line,
            c == EOF ? "the end of the file inside it (is the file truncated?)" : "something else");
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcasecmp(s + n - m, tail) == 0;
}

/* Decides the format; leaves the file at its first record. */
static int detect(qs_record_reader *r, qs_err *e)
{
    unsigned char head[4] = {0};
    size_t n = fread(head, 1, sizeof head, r->file);
    QS_TRY(read_failed(r, e));
    if (n == 4 && memcmp(head, "PAR1", 4) == 0)
        QS_FAIL(e, QS_EUNSUP, "%s: is a Parquet file; expected JSON, JSON Lines or text (convert it to .jsonl)", r->path);
    if (n >= 2 && ((head[0] == 0x1f && head[1] == 0x8b) || (head[0] == 'P' && head[1] == 'K')))
        QS_FAIL(e, QS_EUNSUP, "%s: is compressed; expected JSON, JSON Lines or text (decompress it first)", r->path);
    bool bom = n >= 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0;
    if (fseek(r->file, bom ? 3 : 0, SEEK_SET)) QS_FAIL(e, QS_EIO, "%s: cannot seek: %s", r->path, strerror(errno));
    r->done = bom ? 3 : 0;
    r->line = 1;
    if (ends_with(r->path, ".txt") || ends_with(r->path, ".text") || ends_with(r->path, ".md")) {
        r->format = QS_RECORDS_TEXT;
        return 0;
    }
    int c = skip_space(r);
    QS_TRY(read_failed(r, e));
    if (c == EOF) QS_FAIL(e, QS_EFORMAT, "%s: is empty; expected a JSON array, JSON Lines or text", r->path);
    if (c == '[') {
        r->format = QS_RECORDS_ARRAY;
        return 0;
    }
    if (c != '{')
        QS_FAIL(e, QS_EFORMAT, "%s:%lld: expected '[' or '{' (a JSON array or JSON Lines), found byte 0x%02x; plain text must be named .txt",
                r->path, (long long)r->line, (unsigned)c);
    /* An object that ends on its first line means JSON Lines. */
    int64_t line = r->line;
    uint64_t at = r->done - 1;
    QS_TRY(read_value(r, c, false, e));
    r->format = r->line == line ? QS_RECORDS_LINES : QS_RECORDS_VALUES;
    if (fseeko(r->file, (off_t)at, SEEK_SET)) QS_FAIL(e, QS_EIO, "%s: cannot seek: %s", r->path, strerror(errno));
    r->done = at;
    r->line = line;
    return 0;
}

int qs_record_reader_open(const char *path, qs_record_reader **out, qs_err *e)
{
    *out = NULL;
    FILE *file = fopen(path, "rbe");
    if (!file) QS_FAIL(e, errno == ENOENT ? QS_EMISSING : QS_EIO, "cannot open data file %s: %s", path, strerror(errno));
    struct stat st;
    if (fstat(fileno(file), &st) || !S_ISREG(st.st_mode)) {
        fclose(file);
        QS_FAIL(e, QS_EIO, "data file %s: is not a regular file; give one .json, .jsonl or .txt file", path);
    }
    qs_record_reader *r = qs_calloc(1, sizeof *r);
    r->file = file;
    r->path = qs_strdup(path);
    r->of = (uint64_t)st.st_size;
    int rc = detect(r, e);
    if (rc) {
        qs_record_reader_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

void qs_record_reader_close(qs_record_reader *r)
{
    if (!r) return;
    fclose(r->file);
    qs_free(r->path);
    qs_free(r->text);
    qs_free(r);
}

qs_record_format qs_record_reader_format(const qs_record_reader *r) { return r->format; }

void qs_record_reader_progress(const qs_record_reader *r, uint64_t *done, uint64_t *of)
{
    *done = r->done;
    *of = r->of;
}

static int next_of_array(qs_record_reader *r, int64_t *line, qs_err *e)
{
    if (r->ended) return 0;
    int c = skip_space(r);
    if (r->started && c == ',') c = skip_space(r);
    else if (r->started && c != ']' && c != EOF)
        QS_FAIL(e, QS_EFORMAT, "%s:%lld: expected ',' or ']' after an element, found '%c'", r->path, (long long)r->line, c);
    QS_TRY(read_failed(r, e));
    if (c == ']') {
        r->ended = true;
        c = skip_space(r);
        if (c != EOF)
            QS_FAIL(e, QS_EFORMAT, "%s:%lld: expected the end of the file after the array, found '%c'", r->path,
                    (long long)r->line, c);
        return 0;
    }
    if (c == EOF)
        QS_FAIL(e, QS_EFORMAT, "%s:%lld: expected ']' at the end of the array, found the end of the file (is it truncated?)",
                r->path, (long long)r->line);
    if (c != '{')
        QS_FAIL(e, QS_EFORMAT, "%s:%lld: expected an object '{...}' as an element of the array, found '%c'", r->path,
                (long long)r->line, c);
    r->started = true;
    *line = r->line;
    QS_TRY(read_value(r, c, false, e));
    return 1;
}

static int next_object(qs_record_reader *r, int64_t *line, qs_err *e)
{
    bool lines = r->format == QS_RECORDS_LINES;
    int c = skip_space(r);
    QS_TRY(read_failed(r, e));
    if (c == EOF) return 0;
    *line = r->line;
    if (c != '{')
        QS_FAIL(e, QS_EFORMAT, "%s:%lld: expected an object '{...}'%s, found '%c'", r->path, (long long)r->line,
                lines ? " on each line" : "", c);
    QS_TRY(read_value(r, c, lines, e));
    bool rest = lines && r->text[r->bytes - 1] == '}'; /* otherwise the line is used up, and the parser will say what it lacks */
    while (rest && (c = next_byte(r)) != EOF && c != '\n')
        if (!is_space(c))
            QS_FAIL(e, QS_EFORMAT, "%s:%lld: expected the end of the line after the object, found '%c'", r->path,
                    (long long)r->line, c);
    return 1;
}

static int next_document(qs_record_reader *r, int64_t *line, qs_err *e)
{
    for (;;) {
        r->bytes = 0;
        *line = r->line;
        bool end = false;
        while (!end) {
            size_t start = r->bytes;
            int c;
            while ((c = next_byte(r)) != EOF && c != '\n') append(r, c);
            QS_TRY(read_failed(r, e));
            size_t length = r->bytes - start;
            if (length && r->text[r->bytes - 1] == '\r') length--;
            end = c == EOF;
            if (length == sizeof separator - 1 && memcmp(r->text + start, separator, length) == 0) {
                r->bytes = start;
                break;
            }
            if (c == '\n') append(r, c);
            if (r->bytes >= QS_DOCUMENT_CUT_BYTES) break;
        }
        /* The newline before a separator belongs to the separator. */
        while (r->bytes && (r->text[r->bytes - 1] == '\n' || r->text[r->bytes - 1] == '\r')) r->bytes--;
        bool blank = true;
        for (size_t i = 0; i < r->bytes && blank; i++) blank = is_space(r->text[i]);
        if (!blank) {
            r->text[r->bytes] = 0;
            return 1;
        }
        if (end) return 0;
    }
}

int qs_record_reader_next(qs_record_reader *r, qs_record *out, qs_err *e)
{
    int64_t line = r->line;
    int got = r->format == QS_RECORDS_ARRAY  ? next_of_array(r, &line, e)
              : r->format == QS_RECORDS_TEXT ? next_document(r, &line, e)
                                             : next_object(r, &line, e);
    if (got == 1) *out = (qs_record){r->text, r->bytes, line};
    return got;
}
