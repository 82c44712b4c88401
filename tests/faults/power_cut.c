#include "tests/faults/power_cut.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/memory.h"
#include "tests/faults/harness.h"

typedef enum kind { CREATE, RENAME, REMOVE, WRITE, SIZE, GROW, SYNC } kind;

/* Files and directories go by number: an inode may come back as another file. */
typedef struct op {
    kind kind;
    int dir, to_dir, file;
    char name[NAME_MAX + 1], to_name[NAME_MAX + 1];
    long long at, bytes;
    const char *data;
} op;

struct power_record {
    char *text;
    op *ops;
    int count, files;
    unsigned long *inode; /* [files] */
};

typedef struct entry {
    int dir, file;
    const char *name;
} entry; /* file -1: gone */

static int number_of(const power_record *r, unsigned long inode)
{
    for (int i = r->files - 1; i >= 0; i--)
        if (r->inode[i] == inode) return i;
    return -1;
}

static int add_file(power_record *r, unsigned long inode)
{
    r->inode = realloc(r->inode, (size_t)(r->files + 1) * sizeof *r->inode);
    r->inode[r->files] = inode;
    return r->files++;
}

/* One line, and the bytes behind it. False: of a file outside the folder. */
static bool parse(power_record *r, const char *line, op *o)
{
    unsigned long a = 0, b = 0;
    *o = (op){.dir = -1, .to_dir = -1, .file = -1};
    if (sscanf(line, "create %lu %lu %255s", &a, &b, o->name) == 3) {
        o->kind = CREATE;
        o->dir = number_of(r, a);
        if (o->dir >= 0) o->file = add_file(r, b);
        return o->dir >= 0;
    }
    if (sscanf(line, "rename %lu %lu %255s %255s", &a, &b, o->name, o->to_name) == 4) {
        o->kind = RENAME;
        o->dir = number_of(r, a);
        o->to_dir = number_of(r, b);
        return o->dir >= 0 && o->to_dir >= 0;
    }
    if (sscanf(line, "remove %lu %255s", &a, o->name) == 2) {
        o->kind = REMOVE;
        o->dir = number_of(r, a);
        return o->dir >= 0;
    }
    if (sscanf(line, "write %lu %lld %lld", &a, &o->at, &o->bytes) == 3)
        o->kind = WRITE;
    else if (sscanf(line, "size %lu %lld", &a, &o->bytes) == 2)
        o->kind = SIZE;
    else if (sscanf(line, "grow %lu %lld", &a, &o->bytes) == 2)
        o->kind = GROW;
    else if (sscanf(line, "sync %lu", &a) == 1)
        o->kind = SYNC;
    else {
        fprintf(stderr, "power_cut: \"%.40s\" is no operation\n", line);
        abort();
    }
    o->file = number_of(r, a);
    return o->file >= 0;
}

power_record *power_record_open(const char *path, const char *dir)
{
    power_record *r = calloc(1, sizeof *r);
    size_t bytes;
    qs_err e = {0};
    struct stat st;
    if (qs_file_read(path, (size_t)1 << 30, &r->text, &bytes, &e) || stat(dir, &st)) abort();
    add_file(r, (unsigned long)st.st_ino);
    for (char *at = r->text, *end = r->text + bytes; at < end;) {
        char *next = memchr(at, '\n', (size_t)(end - at));
        if (!next) abort();
        *next++ = 0;
        r->ops = realloc(r->ops, (size_t)(r->count + 1) * sizeof *r->ops);
        op *o = &r->ops[r->count];
        bool ours = parse(r, at, o);
        if (o->kind == WRITE) {
            o->data = next;
            next += o->bytes;
        }
        r->count += ours;
        at = next;
    }
    return r;
}

void power_record_close(power_record *r)
{
    qs_free(r->text);
    free(r->ops);
    free(r->inode);
    free(r);
}

int power_record_ops(const power_record *r) { return r->count; }

/* ---- names ------------------------------------------------------------------------------------------- */

static int find(const entry *list, int count, int dir, const char *name)
{
    for (int i = 0; i < count; i++)
        if (list[i].file >= 0 && list[i].dir == dir && !strcmp(list[i].name, name)) return i;
    return -1;
}

/* The names there are when of each directory the operations before kept[dir] have been done. Returns how
 * many; free(*out). */
static int names(const power_record *r, int cut, const int *kept, entry **out)
{
    entry *list = calloc((size_t)r->count + 1, sizeof *list);
    int count = 0;
    for (int i = 0; i < cut; i++) {
        const op *o = &r->ops[i];
        if (o->kind > REMOVE || i >= kept[o->dir]) continue;
        int at = find(list, count, o->dir, o->name);
        if (o->kind == CREATE)
            list[count++] = (entry){o->dir, o->file, o->name};
        else if (at < 0)
            continue;
        else if (o->kind == REMOVE)
            list[at].file = -1;
        else {
            int old = find(list, count, o->to_dir, o->to_name);
            if (old >= 0) list[old].file = -1;
            list[at].dir = o->to_dir;
            list[at].name = o->to_name;
        }
    }
    *out = list;
    return count;
}

/* ---- bytes ------------------------------------------------------------------------------------------- */

static void fill(const power_record *r, int file, int cut, int synced, uint32_t seed, int fd)
{
    for (int i = 0; i < cut; i++) {
        const op *o = &r->ops[i];
        if (o->file != file || o->kind == SYNC || o->kind == CREATE) continue;
        uint32_t luck = i < synced ? 0 : harness_random(seed, (uint32_t)i, 3);
        if (luck == 1) continue;
        struct stat st;
        int rc = fstat(fd, &st);
        if (o->kind == SIZE) rc |= ftruncate(fd, o->bytes);
        if (o->kind == GROW && o->bytes > st.st_size) rc |= ftruncate(fd, o->bytes);
        long long bytes =
            luck == 2 ? harness_random(seed + 1, (uint32_t)i, (uint32_t)o->bytes + 1) : o->bytes;
        if (o->kind == WRITE && pwrite(fd, o->data, (size_t)bytes, o->at) != bytes) abort();
        if (rc) abort();
    }
}

static bool is_dir(const power_record *r, int file)
{
    for (int i = 0; i < r->count; i++)
        if (r->ops[i].kind <= REMOVE && (r->ops[i].dir == file || r->ops[i].to_dir == file)) return true;
    return false;
}

static void build(const power_record *r, const entry *list, int count, int dir, int cut, const int *synced,
                  uint32_t seed, const char *path)
{
    for (int i = 0; i < count; i++) {
        if (list[i].file < 0 || list[i].dir != dir) continue;
        char *below = qs_path_join(path, list[i].name);
        if (is_dir(r, list[i].file)) {
            if (mkdir(below, 0777)) abort();
            build(r, list, count, list[i].file, cut, synced, seed, below);
        } else {
            int fd = open(below, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
            if (fd < 0) abort();
            fill(r, list[i].file, cut, synced[list[i].file], seed, fd);
            close(fd);
        }
        qs_free(below);
    }
}

void power_cut(const power_record *r, int cut, uint32_t seed, bool deaf, const char *to)
{
    int *synced = calloc((size_t)r->files, sizeof *synced), *kept = calloc((size_t)r->files, sizeof *kept);
    entry *list;
    for (int i = 0; i < cut && !deaf; i++)
        if (r->ops[i].kind == SYNC) synced[r->ops[i].file] = i + 1;
    for (int f = 0; f < r->files; f++)
        kept[f] = synced[f] + (int)harness_random(seed + 2, (uint32_t)f, (uint32_t)(cut - synced[f] + 1));
    int count = names(r, cut, kept, &list);
    build(r, list, count, 0, cut, synced, seed, to);
    free(list);
    free(kept);
    free(synced);
}

int power_promised(const power_record *r, int cut)
{
    int renamed[64], published[64], newest = -1, step;
    for (int i = 0; i < 64; i++) renamed[i] = published[i] = -1;
    for (int i = 0; i < cut; i++) {
        const op *o = &r->ops[i];
        if (o->kind == RENAME && sscanf(o->to_name, "checkpoint-%d", &step) == 1 && step < 64)
            renamed[step] = o->to_dir;
        if (o->kind == SYNC)
            for (int s = 0; s < 64; s++)
                if (renamed[s] == o->file) published[s] = 1;
        if (o->kind == REMOVE && sscanf(o->name, "checkpoint-%d", &step) == 1 && step < 64)
            renamed[step] = published[step] = -1;
    }
    for (int s = 0; s < 64; s++)
        if (published[s] > 0) newest = s;
    return newest;
}
