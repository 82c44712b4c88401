/* The engine for systems that refuse io_uring: a few threads that call pread and pwrite. Two lists under one
 * lock. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "io/aio_engine.h"
#include "src/base/memory.h"

/* Enough to saturate what a blocking interface can: requests are large, and an SSD splits them among its
 * channels itself. */
#define MAX_THREADS 4

typedef struct request_list {
    qs_aio_request *head, **tail;
} request_list;

typedef struct pread_engine {
    pthread_mutex_t lock;
    pthread_cond_t work, ended;
    request_list todo, done; /* under the lock, as is stop */
    bool stop;
    int threads;
    pthread_t thread[MAX_THREADS];
} pread_engine;

static void append(request_list *list, qs_aio_request *r)
{
    r->next = NULL;
    *list->tail = r;
    list->tail = &r->next;
}

static void *serve(void *arg)
{
    pread_engine *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->todo.head && !p->stop) pthread_cond_wait(&p->work, &p->lock);
        qs_aio_request *r = p->todo.head;
        if (!r) break;
        p->todo.head = r->next;
        if (!r->next) p->todo.tail = &p->todo.head;
        pthread_mutex_unlock(&p->lock);
        ssize_t n = r->write ? pwrite(r->file->fd, r->buffer, r->bytes, (off_t)r->offset)
                             : pread(r->file->fd, r->buffer, r->bytes, (off_t)r->offset);
        r->result = n < 0 ? -errno : n;
        pthread_mutex_lock(&p->lock);
        append(&p->done, r);
        pthread_cond_signal(&p->ended);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void pread_close(void *engine)
{
    pread_engine *p = engine;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->threads; i++) pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->ended);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    qs_free(p);
}

static int pread_open(int depth, void **out, qs_err *e)
{
    pread_engine *p = qs_calloc(1, sizeof *p);
    p->todo.tail = &p->todo.head;
    p->done.tail = &p->done.head;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->ended, NULL);
    while (p->threads < depth && p->threads < MAX_THREADS) {
        int error = pthread_create(&p->thread[p->threads], NULL, serve, p);
        if (error && !p->threads) {
            pread_close(p);
            QS_FAIL(e, QS_EIO,
                    "no thread for reading can be started: %s; raise the limit on processes (ulimit -u)",
                    strerror(error));
        }
        if (error) break; /* fewer do as well */
        p->threads++;
    }
    *out = p;
    return 0;
}

static bool pread_register_block(void *engine, void *base, size_t bytes, qs_err *e)
{
    qs_err_set(e, QS_EUNSUP, __FILE__, __LINE__, "only io_uring has registered buffers");
    return false;
}

static void pread_queue(void *engine, qs_aio_request *r)
{
    pread_engine *p = engine;
    pthread_mutex_lock(&p->lock);
    append(&p->todo, r);
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

static void pread_submit(void *engine) {}

static qs_aio_request *pread_reap(void *engine, bool wait)
{
    pread_engine *p = engine;
    pthread_mutex_lock(&p->lock);
    while (wait && !p->done.head) pthread_cond_wait(&p->ended, &p->lock);
    qs_aio_request *r = p->done.head;
    p->done = (request_list){NULL, &p->done.head};
    pthread_mutex_unlock(&p->lock);
    return r;
}

const qs_aio_engine_table qs_aio_engine_pread = {.name = "pread",
                                                 .open = pread_open,
                                                 .close = pread_close,
                                                 .register_block = pread_register_block,
                                                 .queue = pread_queue,
                                                 .submit = pread_submit,
                                                 .reap = pread_reap};
