#include "io/file_kind.h"

#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define CONVERT(call) "python3 -c \"import sys, " call "\""

/* Marks at a fixed place. The command converts FILE to FILE.jsonl. */
static const struct {
    size_t at;
    const char *mark;
    size_t bytes;
    const char *is;
} marks[] = {
#define MARK(at, text, is)             \
    {                                  \
        at, text, sizeof(text) - 1, is \
    }
    MARK(0, "PAR1",
         "a Parquet file, which is not read; convert it: " CONVERT(
             "pandas as p; p.read_parquet(sys.argv[1]).to_json(sys.argv[1] + '.jsonl', orient='records', "
             "lines=True)") " FILE"),
    MARK(0, "ARROW1",
         "an Arrow file, which is not read; convert it: " CONVERT(
             "datasets as d; d.Dataset.from_file(sys.argv[1]).to_json(sys.argv[1] + '.jsonl')") " FILE"),
    MARK(0, "\xff\xff\xff\xff",
         "an Arrow stream, which is not read; convert it: " CONVERT(
             "datasets as d; d.Dataset.from_file(sys.argv[1]).to_json(sys.argv[1] + '.jsonl')") " FILE"),
    MARK(0, "version https://git-lfs.github.com/spec/",
         "a Git LFS pointer, not the file itself; fetch it with `git lfs pull` in its folder, or download it "
         "again"),
    MARK(0, "PK\3\4",
         "a zip archive (or an Excel, Word or PyTorch file, which are such); unpack it, or export it as CSV "
         "or JSON Lines"),
    MARK(0, "\x93NUMPY", "a NumPy file, which is not read; export its rows as JSON Lines"),
    MARK(0, "\x80\4\x95",
         "a Python pickle, which is never read: it can run code; export its rows as JSON Lines"),
    MARK(0, "\x80\5\x95",
         "a Python pickle, which is never read: it can run code; export its rows as JSON Lines"),
    MARK(0, "\xff\xfe\0\0", "text in UTF-32; convert it: iconv -f UTF-32 -t UTF-8 FILE >NEW"),
    MARK(0, "\0\0\xfe\xff", "text in UTF-32; convert it: iconv -f UTF-32 -t UTF-8 FILE >NEW"),
    MARK(0, "Obj\1", "an Avro file, which is not read; export its rows as JSON Lines"),
    MARK(0, "7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    MARK(0, "Rar!", "a rar archive; unpack it first"),
    MARK(257, "ustar", "a tar archive; unpack it first"),
    MARK(0, "%PDF", "a PDF document; extract its text first"),
    MARK(0, "\x89HDF", "an HDF5 file, which is not read"),
    MARK(0, "GGUF", "a GGUF model"),
    MARK(0, "SQLite format 3", "an SQLite database; export the table as JSON Lines"),
    MARK(0, "{\\rtf", "an RTF document; save it as plain text"),
    MARK(0, "\x89PNG", "a picture"),
    MARK(0, "\xff\xd8\xff", "a picture"),
    MARK(0,
         "\x7f"
         "ELF",
         "a program"),
#undef MARK
};

static const char web_page[] =
    "an HTML page, not the file itself: the download went wrong (a login or an error page?); fetch it again";

static int is_web_page(const char *head, size_t bytes)
{
    static const char *const begins[] = {"<!doctype html", "<html", "<head", "<body"};
    while (bytes && strchr(" \t\r\n\xef\xbb\xbf", *head) && *head) head++, bytes--;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        size_t n = strlen(begins[i]);
        if (bytes >= n && strncasecmp(head, begins[i], n) == 0) return 1;
    }
    return 0;
}

const char *qs_file_kind_trouble(const char *head, size_t bytes)
{
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (bytes >= marks[i].at + marks[i].bytes &&
            memcmp(head + marks[i].at, marks[i].mark, marks[i].bytes) == 0)
            return marks[i].is;
    if (is_web_page(head, bytes)) return web_page;
    size_t zeros = 0;
    while (zeros < bytes && !head[zeros]) zeros++;
    return bytes && zeros == bytes ? "nothing but NUL bytes (0x00) where it begins: it was never written "
                                     "whole (a crash, a full disk, an "
                                     "aborted download?); fetch it again"
                                   : NULL;
}

const char *qs_file_kind_trouble_at(const char *path)
{
    char head[QS_FILE_KIND_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* NONBLOCK: a pipe must not hang */
    if (fd < 0) return NULL;
    ssize_t n = pread(fd, head, sizeof head, 0);
    close(fd);
    return n > 0 ? qs_file_kind_trouble(head, (size_t)n) : NULL;
}
