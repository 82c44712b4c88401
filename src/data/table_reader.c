#include "src/data/table_reader.h"

#include "src/base/memory.h"

void qs_table_row_free(qs_table_row *row)
{
    qs_free(row->fields);
    qs_free(row->text);
    qs_free(row->ends);
    *row = (qs_table_row){0};
}

char qs_table_separator(const char *line, size_t bytes)
{
    static const char separators[] = {',', '\t', ';'};
    size_t times[3] = {0};
    bool quoted = false;
    for (size_t i = 0; i < bytes && (quoted || line[i] != '\n'); i++) {
        if (line[i] == '"') quoted = !quoted;
        for (int k = 0; k < 3 && !quoted; k++) times[k] += line[i] == separators[k];
    }
    int best = 0;
    for (int k = 1; k < 3; k++)
        if (times[k] > times[best]) best = k;
    return separators[best];
}

static void append(qs_table_row *row, int c)
{
    if (row->bytes + 1 >= row->text_capacity) {
        row->text_capacity = row->text_capacity ? 2 * row->text_capacity : 1024;
        row->text = qs_realloc(row->text, row->text_capacity);
    }
    row->text[row->bytes++] = (char)c;
}

static void end_field(qs_table_row *row)
{
    append(row, 0);
    if (row->count == row->capacity) {
        row->capacity = row->capacity ? 2 * row->capacity : 16;
        row->ends = qs_realloc(row->ends, row->capacity * sizeof *row->ends);
        row->fields = qs_realloc(row->fields, row->capacity * sizeof *row->fields);
    }
    row->ends[row->count++] = row->bytes;
}

/* Fields point into the text, which no longer moves. */
static void point(qs_table_row *row)
{
    for (size_t i = 0, at = 0; i < row->count; at = row->ends[i++])
        row->fields[i] = (qs_field){row->text + at, row->ends[i] - at - 1};
}

static void skip_line(qs_byte_cursor *c)
{
    int b;
    do b = qs_byte_cursor_next(c);
    while (b != '\n' && b != QS_CURSOR_END);
}

static int check_size(qs_byte_cursor *c, const char *path, const qs_table_row *row, qs_err *e)
{
    if (row->bytes <= QS_TABLE_ROW_MAX_BYTES && row->count < QS_TABLE_MAX_FIELDS) return 0;
    QS_FAIL(e, QS_EFORMAT, "%s:%lld: this row has more than %d MiB or %d fields; does a quote not end?", path,
            (long long)row->line, QS_TABLE_ROW_MAX_BYTES >> 20, QS_TABLE_MAX_FIELDS);
}

/* The rest of a field in quotes, the opening one read. */
static int read_quoted(qs_byte_cursor *c, const char *path, char separator, qs_table_row *row, qs_err *e)
{
    for (;;) {
        int b = qs_byte_cursor_next(c);
        if (b == QS_CURSOR_END) {
            QS_TRY(qs_byte_cursor_check(c, e));
            QS_FAIL(e, QS_EFORMAT,
                    "%s:%lld: the row ends inside quotes, at the end of the file (is it truncated?)", path,
                    (long long)row->line);
        }
        if (b == '\r' && qs_byte_cursor_peek(c) == '\n') continue; /* line ends are \n here too */
        if (b != '"') {
            append(row, b);
            QS_TRY(check_size(c, path, row, e));
            continue;
        }
        b = qs_byte_cursor_peek(c);
        if (b == '"') {
            append(row, qs_byte_cursor_next(c));
            continue;
        }
        if (b == separator || b == '\n' || b == '\r' || b == QS_CURSOR_END) return 0;
        skip_line(c);
        QS_FAIL(e, QS_EFORMAT,
                "%s:%lld: expected a separator or the end of the line after a closing quote, found byte "
                "0x%02x; a quote "
                "inside quotes is written twice",
                path, (long long)row->line, (unsigned)b);
    }
}

int qs_table_next(qs_byte_cursor *c, const char *path, char separator, qs_table_row *row, qs_err *e)
{
    int b;
    while ((b = qs_byte_cursor_peek(c)) == '\n' || b == '\r') qs_byte_cursor_next(c);
    row->bytes = row->count = 0;
    row->line = c->line;
    if (b == QS_CURSOR_END) return qs_byte_cursor_check(c, e);
    for (bool fresh = true;;) {
        b = qs_byte_cursor_next(c);
        if (fresh && b == '"') {
            QS_TRY(read_quoted(c, path, separator, row, e));
            fresh = false;
            continue;
        }
        fresh = b == separator;
        if (b == '\r' && (qs_byte_cursor_peek(c) == '\n' || qs_byte_cursor_peek(c) == QS_CURSOR_END))
            continue;
        if (b == separator || b == '\n' || b == QS_CURSOR_END)
            end_field(row);
        else
            append(row, b);
        if (b == QS_CURSOR_END) QS_TRY(qs_byte_cursor_check(c, e));
        if (b == '\n' || b == QS_CURSOR_END) break;
        QS_TRY(check_size(c, path, row, e));
    }
    point(row);
    return 1;
}
