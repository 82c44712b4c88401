#include "src/data/record_reader.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "io/file_kind.h"
#include "src/base/memory.h"

struct qs_record_reader {
    qs_byte_cursor in;
    char *path;
    qs_record_format format;
    bool started, ended; /* past the "[" of an array, past its "]" */
    bool inside;         /* the array is the value of a key of an object */
    bool waiting;        /* the first object has been read already, to see what the file is */
    bool lost;           /* after an error nothing more can be read */
    int64_t first_line;
    char separator;
    qs_table_row header, row;
    char *text;
    size_t bytes, capacity;
};

static const char document_end[] = "<|endoftext|>";

static int next_byte(qs_record_reader *r) { return qs_byte_cursor_next(&r->in); }

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

static void skip_line(qs_record_reader *r)
{
    int c;
    do c = next_byte(r);
    while (c != '\n' && c != QS_CURSOR_END);
}

static int fail_at_nul(const qs_record_reader *r, qs_err *e)
{
    QS_FAIL(e, QS_EFORMAT,
            "%s:%lld: NUL bytes (0x00) where a row should be: the file was not written whole (a crash, a "
            "sparse copy?); cut them "
            "off (tr -d '\\000' <FILE), or fetch it again",
            r->path, (long long)r->in.line);
}

/* "%s:%lld: expected WHAT, found ..." */
static int unexpected(const qs_record_reader *r, int c, const char *expected, qs_err *e)
{
    QS_TRY(qs_byte_cursor_check(&r->in, e));
    if (c == 0) return fail_at_nul(r, e);
    if (c == QS_CURSOR_END)
        QS_FAIL(e, QS_EFORMAT, "%s:%lld: expected %s, found the end of the file (is it truncated?)", r->path,
                (long long)r->in.line, expected);
    if (c > ' ' && c < 0x7f)
        QS_FAIL(e, QS_EFORMAT, "%s:%lld: expected %s, found '%c'", r->path, (long long)r->in.line, expected,
                c);
    QS_FAIL(e, QS_EFORMAT, "%s:%lld: expected %s, found byte 0x%02x", r->path, (long long)r->in.line,
            expected, (unsigned)c);
}

/* ---- one JSON value ---------------------------------------------------------------------------------- */

/* Where we are in a value that is being read. */
typedef struct scan {
    int depth;
    bool string, escaped;
} scan;

/* Takes one byte of a value; true when it ends it (or nothing of it is open). */
static bool scan_byte(scan *s, int c)
{
    if (s->string) {
        if (s->escaped)
            s->escaped = false;
        else if (c == '\\')
            s->escaped = true;
        else if (c == '"')
            s->string = false;
        return false;
    }
    if (c == '"')
        s->string = true;
    else if (c == '{' || c == '[')
        s->depth++;
    else if (c == '}' || c == ']')
        s->depth--;
    return s->depth <= 0;
}

/* Reads on in a JSON object up to its closing bracket, strings respected. With one_line a newline ends it
 * too: what is wrong with it is then found by the parser, on its own line. */
static int read_rest(qs_record_reader *r, scan s, int64_t first_line, bool one_line, qs_err *e)
{
    for (;;) {
        int c = qs_byte_cursor_peek(&r->in);
        if (c == QS_CURSOR_END || (one_line && c == '\n')) break;
        next_byte(r);
        if (r->bytes >= QS_RECORD_MAX_BYTES) {
            r->lost = true;
            QS_FAIL(e, QS_EFORMAT,
                    "%s:%lld: this record is longer than %d MiB; expected one JSON object per sample",
                    r->path, (long long)first_line, QS_RECORD_MAX_BYTES >> 20);
        }
        append(r, c);
        if (scan_byte(&s, c)) return 0;
    }
    QS_TRY(qs_byte_cursor_check(&r->in, e));
    if (one_line) return 0;
    QS_FAIL(e, QS_EFORMAT,
            "%s:%lld: expected a complete JSON object, found the end of the file inside it (is the file "
            "truncated?)",
            r->path, (long long)first_line);
}

/* The object that begins with the "{" just read. */
static int read_object(qs_record_reader *r, bool one_line, qs_err *e)
{
    int64_t line = r->in.line;
    r->bytes = 0;
    append(r, '{');
    return read_rest(r, (scan){.depth = 1}, line, one_line, e);
}

/* ---- what the file is -------------------------------------------------------------------------------- */

static bool ends_with(const char *s, size_t n, const char *tail)
{
    size_t m = strlen(tail);
    return n >= m && strncasecmp(s + n - m, tail, m) == 0;
}

/* Whether the name, without the suffix of a packer, ends in one of these. */
static bool is_named(const qs_record_reader *r, const char *const *suffixes)
{
    static const char *const packers[] = {".gz", ".xz", ".zst", ".zstd", ".bz2", ".lzma", NULL};
    size_t n = strlen(r->path);
    for (int i = 0; packers[i]; i++)
        if (ends_with(r->path, n, packers[i])) {
            n -= strlen(packers[i]);
            break;
        }
    for (int i = 0; suffixes[i]; i++)
        if (ends_with(r->path, n, suffixes[i])) return true;
    return false;
}

/* Keys under which whole files of rows are known to lie. */
static bool is_wrapper(const char *key, size_t n)
{
    static const char *const keys[] = {"data",    "rows",  "examples", "train",   "instances",
                                       "samples", "items", "records",  "dataset", "entries"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strlen(keys[i]) == n && memcmp(keys[i], key, n) == 0) return true;
    return false;
}

/* Whether text[0, at) ends in `"KEY":` with such a key. */
static bool after_wrapper(const char *text, size_t at)
{
    while (at && is_space(text[at - 1])) at--;
    if (!at || text[at - 1] != ':') return false;
    at--;
    while (at && is_space(text[at - 1])) at--;
    if (at < 2 || text[at - 1] != '"') return false;
    size_t end = --at;
    while (at && text[at - 1] != '"') at--;
    return at && is_wrapper(text + at, end - at);
}

/* Reads the first object until it ends (then it waits as the first record), or until it turns out to hold the
 * rows under a key. */
static int read_first(qs_record_reader *r, qs_err *e)
{
    scan s = {.depth = 1};
    r->first_line = r->in.line;
    r->bytes = 0;
    append(r, '{');
    for (;;) {
        int c = next_byte(r);
        if (c == QS_CURSOR_END) {
            QS_TRY(qs_byte_cursor_check(&r->in, e));
            QS_FAIL(e, QS_EFORMAT,
                    "%s:%lld: expected a complete JSON object, found the end of the file inside it (is the "
                    "file truncated?)",
                    r->path, (long long)r->first_line);
        }
        if (r->bytes >= QS_RECORD_MAX_BYTES)
            QS_FAIL(e, QS_EFORMAT,
                    "%s:%lld: this record is longer than %d MiB; expected one JSON object per sample",
                    r->path, (long long)r->first_line, QS_RECORD_MAX_BYTES >> 20);
        append(r, c);
        bool ends = scan_byte(&s, c);
        if (c == '[' && s.depth == 2 && !s.string && after_wrapper(r->text, r->bytes - 1)) {
            while (is_space(qs_byte_cursor_peek(&r->in))) append(r, next_byte(r));
            if (qs_byte_cursor_peek(&r->in) == '{') {
                r->format = QS_RECORDS_ARRAY;
                r->inside = true;
                return 0;
            }
        }
        if (!ends) continue;
        r->waiting = true;
        bool one_line = r->in.line == r->first_line;
        r->format = one_line ? QS_RECORDS_LINES : QS_RECORDS_VALUES;
        return 0;
    }
}

static int read_header(qs_record_reader *r, qs_err *e)
{
    r->format = QS_RECORDS_TABLE;
    int got = qs_table_next(&r->in, r->path, r->separator, &r->header, e);
    if (got < 0) return got;
    if (!got) QS_FAIL(e, QS_EFORMAT, "%s: is empty; expected a header of column names", r->path);
    for (size_t i = 0; i < r->header.count; i++)
        for (size_t k = 0; k < i; k++)
            if (r->header.fields[i].bytes && strcmp(r->header.fields[i].text, r->header.fields[k].text) == 0)
                QS_FAIL(e, QS_EFORMAT,
                        "%s: its header names the column \"%.60s\" twice; is the first line a header?",
                        r->path, r->header.fields[i].text);
    return 0;
}

/* Whether the first line looks like a table's header: names of columns that rows are known by, between
 * separators. */
static bool looks_like_header(const char *p, size_t n)
{
    static const char *const known[] = {"instruction", "messages",  "conversations", "prompt",
                                        "question",    "input_ids", "text"};
    size_t end = 0;
    while (end < n && p[end] != '\n') end++;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *at = memmem(p, end, known[i], strlen(known[i]));
        if (!at) continue;
        const char *after = at + strlen(known[i]) + (at > p && at[-1] == '"');
        if ((at == p || strchr(",;\t\"", at[-1])) && after <= p + end &&
            (after == p + end || strchr(",;\t\r", *after)))
            return true;
    }
    return false;
}

/* Decides the format; leaves the file at its first record. */
static int detect(qs_record_reader *r, qs_err *e)
{
    static const char *const text[] = {".txt", ".text", ".md", NULL}, *const table[] = {".csv", ".tsv",
                                                                                        ".tab", NULL};
    int c;
    qs_byte_cursor_peek(&r->in); /* fetches the first stretch */
    size_t n = (size_t)(r->in.end - r->in.at);
    QS_TRY(qs_byte_cursor_check(&r->in, e));
    const char *trouble = qs_file_kind_trouble(r->in.at, n);
    if (trouble) QS_FAIL(e, QS_EUNSUP, "%s: is %s", r->path, trouble);
    if (is_named(r, text)) {
        r->format = QS_RECORDS_TEXT;
        return 0;
    }
    if (is_named(r, table)) {
        r->separator = qs_table_separator(r->in.at, n);
        return read_header(r, e);
    }
    while (is_space(c = qs_byte_cursor_peek(&r->in))) next_byte(r);
    QS_TRY(qs_byte_cursor_check(&r->in, e));
    if (c == QS_CURSOR_END)
        QS_FAIL(e, QS_EFORMAT, "%s: is empty; expected a JSON array, JSON Lines, CSV or text", r->path);
    n = (size_t)(r->in.end - r->in.at);
    if (c == '[') {
        next_byte(r);
        r->format = QS_RECORDS_ARRAY;
        return 0;
    }
    if (c != '{' && looks_like_header(r->in.at, n)) {
        r->separator = qs_table_separator(r->in.at, n);
        return read_header(r, e);
    }
    if (c == 0) return fail_at_nul(r, e);
    if (c != '{')
        QS_FAIL(e, QS_EFORMAT,
                "%s:%lld: expected '[' or '{' (a JSON array or JSON Lines), found byte 0x%02x; plain text "
                "must be named .txt, "
                "tables .csv or .tsv",
                r->path, (long long)r->in.line, (unsigned)c);
    next_byte(r);
    return read_first(r, e);
}

/* ---- records ----------------------------------------------------------------------------------------- */

/* After the "]" of rows that lie under a key: the rest of the object, and nothing behind it. */
static int end_wrapper(qs_record_reader *r, qs_err *e)
{
    scan s = {.depth = 1};
    int c, before = 0;
    do {
        c = next_byte(r);
        if (c == QS_CURSOR_END)
            return unexpected(r, c, "'}' at the end of the object that holds the rows", e);
        if (c == '{' && before == '[' && s.depth == 2 && !s.string)
            QS_FAIL(e, QS_EFORMAT, "%s:%lld: holds rows under two keys; split the file, one for each",
                    r->path, (long long)r->in.line);
        if (!is_space(c)) before = c;
    } while (!scan_byte(&s, c));
    return 0;
}

static int next_of_array(qs_record_reader *r, int64_t *line, qs_err *e)
{
    if (r->ended) return 0;
    int c = skip_space(r);
    if (r->started && c == ',')
        c = skip_space(r);
    else if (r->started && c != ']') {
        if (c != QS_CURSOR_END && c != 0) return unexpected(r, c, "',' or ']' after an element", e);
        return unexpected(r, c, "']' at the end of the array", e);
    }
    if (c == ']') {
        r->ended = true;
        if (r->inside) QS_TRY(end_wrapper(r, e));
        c = skip_space(r);
        if (c != QS_CURSOR_END) return unexpected(r, c, "the end of the file after the array", e);
        return qs_byte_cursor_check(&r->in, e);
    }
    if (c == QS_CURSOR_END) return unexpected(r, c, "']' at the end of the array", e);
    if (c != '{') return unexpected(r, c, "an object '{...}' as an element of the array", e);
    r->started = true;
    *line = r->in.line;
    QS_TRY(read_object(r, false, e));
    return 1;
}

static int next_object(qs_record_reader *r, int64_t *line, qs_err *e)
{
    bool lines = r->format == QS_RECORDS_LINES;
    if (r->waiting) {
        *line = r->first_line;
        r->waiting = false;
    } else {
        int c = skip_space(r);
        if (c == QS_CURSOR_END) return qs_byte_cursor_check(&r->in, e);
        *line = r->in.line;
        if (c != '{') {
            if (c == 0) r->lost = true;
            int rc = unexpected(r, c, lines ? "an object '{...}' on each line" : "an object '{...}'", e);
            if (lines && c) skip_line(r);
            return rc;
        }
        QS_TRY(read_object(r, lines, e));
    }
    bool rest = lines && r->text[r->bytes - 1] ==
                             '}'; /* otherwise the line is used up, and the parser will say what it lacks */
    while (rest) {
        int c = qs_byte_cursor_peek(&r->in);
        if (c == QS_CURSOR_END) return qs_byte_cursor_check(&r->in, e) ? r->in.failed : 1;
        if (!is_space(c)) {
            int rc = unexpected(r, c, "the end of the line after the object", e);
            if (c == 0)
                r->lost = true;
            else
                skip_line(r);
            return rc;
        }
        next_byte(r);
        rest = c != '\n';
    }
    return 1;
}

static int next_row(qs_record_reader *r, qs_err *e)
{
    int got = qs_table_next(&r->in, r->path, r->separator, &r->row, e);
    if (got < 1) return got;
    if (r->row.count != r->header.count)
        QS_FAIL(e, QS_EFORMAT, "%s:%lld: has %zu fields; the header names %zu columns", r->path,
                (long long)r->row.line, r->row.count, r->header.count);
    return 1;
}

/* Appends a line without its end; the end is \n, and \r\n is one too. Returns its length. */
static size_t read_line(qs_record_reader *r, bool *end)
{
    size_t start = r->bytes;
    int c;
    while ((c = next_byte(r)) != QS_CURSOR_END && c != '\n') append(r, c);
    *end = c == QS_CURSOR_END;
    if (!*end && r->bytes > start && r->text[r->bytes - 1] == '\r') r->bytes--;
    return r->bytes - start;
}

static int next_document(qs_record_reader *r, int64_t *line, qs_err *e)
{
    for (;;) {
        r->bytes = 0;
        *line = r->in.line;
        bool end = false;
        while (!end) {
            size_t length = read_line(r, &end);
            QS_TRY(qs_byte_cursor_check(&r->in, e));
            if (length == sizeof document_end - 1 &&
                memcmp(r->text + r->bytes - length, document_end, length) == 0) {
                r->bytes -= length;
                break;
            }
            if (!end) append(r, '\n');
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
    int64_t line = r->in.line;
    if (r->format == QS_RECORDS_TABLE) {
        int got = next_row(r, e);
        *out = (qs_record){.names = r->header.fields,
                           .fields = r->row.fields,
                           .field_count = r->row.count,
                           .line = r->row.line};
        return got;
    }
    int got = r->format == QS_RECORDS_ARRAY  ? next_of_array(r, &line, e)
              : r->format == QS_RECORDS_TEXT ? next_document(r, &line, e)
                                             : next_object(r, &line, e);
    *out = (qs_record){.text = r->text, .bytes = r->bytes, .line = line};
    return got;
}

bool qs_record_reader_goes_on(const qs_record_reader *r)
{
    return !r->lost && !r->in.failed && (r->format == QS_RECORDS_LINES || r->format == QS_RECORDS_TABLE);
}

int qs_record_reader_open(const char *path, qs_record_reader **out, qs_err *e)
{
    *out = NULL;
    qs_byte_source *source;
    QS_TRY(qs_byte_source_open(path, &source, e));
    qs_record_reader *r = qs_calloc(1, sizeof *r);
    r->in = (qs_byte_cursor){.source = source, .line = 1};
    r->path = qs_strdup(path);
    int rc = detect(r, e);
    if (rc)
        qs_record_reader_close(r);
    else
        *out = r;
    return rc;
}

void qs_record_reader_close(qs_record_reader *r)
{
    if (!r) return;
    qs_byte_source_close(r->in.source);
    qs_table_row_free(&r->header);
    qs_table_row_free(&r->row);
    qs_free(r->path);
    qs_free(r->text);
    qs_free(r);
}

qs_record_format qs_record_reader_format(const qs_record_reader *r) { return r->format; }

void qs_record_reader_progress(const qs_record_reader *r, uint64_t *done, uint64_t *of)
{
    qs_byte_source_progress(r->in.source, done, of);
}
