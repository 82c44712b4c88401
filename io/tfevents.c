#include "io/tfevents.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "src/base/memory.h"

struct qs_tfevents {
    int fd;
    char *path;
};

/* ---- protocol buffers -------------------------------------------------------------------------------- */

/* One message under construction: room for the largest event there is. */
typedef struct message {
    uint8_t bytes[64 + QS_TFEVENTS_MAX_SCALARS * (QS_TFEVENTS_MAX_TAG_BYTES + 16)];
    size_t used;
} message;

enum { VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5 }; /* wire types */

static void put_byte(message *m, uint64_t b)
{
    QS_ASSERT(m->used < sizeof m->bytes);
    m->bytes[m->used++] = (uint8_t)b;
}

static void put_varint(message *m, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) put_byte(m, v | 0x80);
    put_byte(m, v);
}

static void put_key(message *m, int field, int wire) { put_varint(m, (uint64_t)(field << 3 | wire)); }

static void put_fixed(message *m, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) put_byte(m, v >> 8 * i);
}

static size_t varint_bytes(uint64_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7) n++;
    return n;
}

static void put_text(message *m, int field, const char *s)
{
    put_key(m, field, LENGTH);
    put_varint(m, strlen(s));
    for (; *s; s++) put_byte(m, (uint8_t)*s);
}

/* Event: wall_time double = 1, step int64 = 2, file_version string = 3, summary = 5, session_log = 7. */
static void put_time(message *m, double wall_seconds)
{
    uint64_t bits;
    memcpy(&bits, &wall_seconds, 8);
    put_key(m, 1, FIXED64);
    put_fixed(m, bits, 8);
}

static void put_step(message *m, int64_t step)
{
    put_key(m, 2, VARINT);
    put_varint(m, (uint64_t)step);
}

/* Summary.Value: tag = 1, simple_value float = 2. Bytes of one, without its own key and length. */
static size_t value_bytes(const qs_tfevents_scalar *s)
{
    size_t n = strlen(s->tag);
    return 1 + varint_bytes(n) + n + 5;
}

static void put_summary(message *m, const qs_tfevents_scalar *scalars, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        size_t n = value_bytes(&scalars[i]);
        total += 1 + varint_bytes(n) + n;
    }
    put_key(m, 5, LENGTH);
    put_varint(m, total);
    for (int i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &scalars[i].value, 4);
        put_key(m, 1, LENGTH); /* Summary: repeated Value value = 1 */
        put_varint(m, value_bytes(&scalars[i]));
        put_text(m, 1, scalars[i].tag);
        put_key(m, 2, FIXED32);
        put_fixed(m, bits, 4);
    }
}

/* ---- records ----------------------------------------------------------------------------------------- */

/* CRC-32C (Castagnoli, reflected) of bytes, masked so that a checksum of data that contains checksums does
 * not degenerate. Bit by bit: an event is a few hundred bytes. */
static uint32_t masked_crc(const uint8_t *bytes, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= bytes[i];
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (0x82F63B78u & -(c & 1));
    }
    c = ~c;
    return (c >> 15 | c << 17) + 0xa282ead8u;
}

static int append(qs_tfevents *t, const message *event, qs_err *e)
{
    message record = {.used = 0};
    put_fixed(&record, event->used, 8);
    put_fixed(&record, masked_crc(record.bytes, 8), 4);
    QS_ASSERT(record.used + event->used + 4 <= sizeof record.bytes);
    memcpy(record.bytes + record.used, event->bytes, event->used);
    record.used += event->used;
    put_fixed(&record, masked_crc(event->bytes, event->used), 4);
    ssize_t n = write(t->fd, record.bytes, record.used);
    if (n != (ssize_t)record.used)
        QS_FAIL(e, QS_EIO, "%s: cannot be written: %s", t->path, n < 0 ? strerror(errno) : strerror(ENOSPC));
    return 0;
}

static int begin(qs_tfevents *t, int64_t last_step, double wall_seconds, qs_err *e)
{
    message version = {.used = 0}, start = {.used = 0};
    put_time(&version, wall_seconds);
    put_text(&version, 3, "brain.Event:2");
    QS_TRY(append(t, &version, e));
    if (!last_step) return 0;
    put_time(&start, wall_seconds);
    put_step(&start, last_step + 1); /* the first step that is no longer true in older files */
    put_key(&start, 7, LENGTH);      /* SessionLog {status = 1: START (1)} */
    put_varint(&start, 2);
    put_key(&start, 1, VARINT);
    put_varint(&start, 1);
    return append(t, &start, e);
}

int qs_tfevents_open(const char *dir, int64_t last_step, double wall_seconds, qs_tfevents **out, qs_err *e)
{
    char host[65] = "localhost";
    gethostname(host, sizeof host - 1);
    for (char *c = host; *c; c++)
        if (*c == '/') *c = '_';
    qs_tfevents *t = qs_calloc(1, sizeof *t);
    for (int n = 0; n == 0 || (t->fd < 0 && errno == EEXIST); n++) {
        qs_free(t->path);
        t->path = qs_printf("%s/events.out.tfevents.%010lld.%s.%ld.%d", dir, (long long)wall_seconds, host,
                            (long)getpid(), n);
        t->fd = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    }
    int rc = t->fd < 0 ? qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot be created: %s", t->path,
                                    strerror(errno))
                       : begin(t, last_step, wall_seconds, e);
    if (rc) {
        qs_tfevents_close(t);
        t = NULL;
    }
    *out = t;
    return rc;
}

void qs_tfevents_close(qs_tfevents *t)
{
    if (!t) return;
    if (t->fd >= 0) close(t->fd);
    qs_free(t->path);
    qs_free(t);
}

int qs_tfevents_write(qs_tfevents *t, double wall_seconds, int64_t step, const qs_tfevents_scalar *scalars,
                      int count, qs_err *e)
{
    QS_ASSERT(count >= 0 && count <= QS_TFEVENTS_MAX_SCALARS);
    for (int i = 0; i < count; i++) QS_ASSERT(strlen(scalars[i].tag) <= QS_TFEVENTS_MAX_TAG_BYTES);
    message event = {.used = 0};
    put_time(&event, wall_seconds);
    put_step(&event, step);
    put_summary(&event, scalars, count);
    return append(t, &event, e);
}

int qs_tfevents_sync(qs_tfevents *t, qs_err *e)
{
    if (fdatasync(t->fd)) QS_FAIL(e, QS_EIO, "%s: cannot be synced to disk: %s", t->path, strerror(errno));
    return 0;
}
