#include "src/commands/cache_verify.h"

#include <stdio.h>
#include <string.h>

#include "io/cache_manifest.h"
#include "io/checkpoint_identity.h"
#include "io/file.h"
#include "io/layer_cache.h"
#include "kernels/device.h"
#include "src/base/interrupt.h"
#include "src/base/memory.h"
#include "src/step/quantise_on_load.h"

static int check_blobs(qs_cache *cache, const qs_cache_entry *c, qs_aio *aio, qs_cache_findings *f, qs_err *e)
{
    uint64_t most = 0;
    qs_region buffer;
    for (int i = 0; i < c->blobs; i++) most = c->blob_bytes[i] > most ? c->blob_bytes[i] : most;
    QS_TRY(qs_region_map(&buffer, most, "verifying a cache", e));
    int rc = 0;
    for (int i = 0; i < c->blobs && !rc; i++) {
        qs_aio_op op;
        if (!qs_cache_has(cache, i)) continue;
        if (qs_interrupt_requested())
            rc = qs_err_set(e, QS_EINTERRUPT, __FILE__, __LINE__, "stopped while verifying %s", c->path);
        qs_cache_read_op(cache, i, buffer.base, &op);
        if (!rc) rc = qs_aio_run(aio, &op, e);
        if (rc) break;
        f->checked++;
        f->damaged += !qs_cache_verify(cache, i, buffer.base);
    }
    qs_region_free(&buffer);
    return rc;
}

/* What the format's words say (src/model/layout.c writes them); compared as a whole afterwards. */
static qs_quant_config quant_of(const char *format)
{
    return (qs_quant_config){strstr(format, " nf4")   ? QS_QUANT_NF4
                             : strstr(format, " fp4") ? QS_QUANT_FP4
                                                      : QS_QUANT_NONE,
                             strstr(format, " double-quantised") != NULL};
}

static int compare_blobs(qs_cache *cache, qs_quantise_on_load *reader, int blobs, qs_cache_findings *f,
                         qs_err *e)
{
    for (int i = 0; i < blobs; i++) {
        uint64_t hash, made_from = qs_cache_source(cache, i);
        if (!made_from) continue;
        if (qs_interrupt_requested()) QS_FAIL(e, QS_EINTERRUPT, "stopped while comparing the model");
        QS_TRY(qs_quantise_on_load_hash(reader, i, &hash, e));
        f->compared++;
        if (hash == made_from) continue;
        f->changed++;
        qs_cache_forget(cache, i, "was made from other bytes than the model has now");
    }
    return 0;
}

/* The model's layout, if it is the one that the cache is in. */
static bool is_layout(const qs_layout *l, const qs_cache_entry *c)
{
    char *format = qs_layout_describe(l);
    bool same = !strcmp(format, c->format) && qs_layout_blobs(l) == c->blobs;
    qs_free(format);
    return same;
}

static int compare_model(qs_cache *cache, const qs_cache_entry *c, const char *dir, qs_aio *aio,
                         qs_cache_findings *f, uint64_t *dates, qs_err *e)
{
    static qs_architecture a; /* large */
    qs_source *source = NULL;
    qs_layout layout;
    qs_device *cpu = NULL;
    qs_quantise_on_load *reader = NULL;
    qs_region memory = {0};
    int rc = qs_architecture_read(dir, &a, e);
    if (!rc) rc = qs_source_open(dir, &source, e);
    if (!rc) rc = qs_architecture_check(&a, source, e);
    if (!rc) rc = qs_architecture_untie(&a, source, e);
    if (!rc) rc = qs_source_identify(source, aio, e);
    if (!rc) qs_layout_make(&a, source, quant_of(c->format), &layout);
    if (!rc && (strcmp(qs_source_fingerprint(source), c->fingerprint) || !is_layout(&layout, c))) {
        snprintf(f->why_not, sizeof f->why_not, "%.200s is another model now", dir);
        qs_source_close(source);
        return 0;
    }
    if (!rc) rc = qs_device_open("cpu", &cpu, e);
    if (!rc) rc = qs_region_map(&memory, qs_quantise_on_load_bytes(&layout), "comparing a model", e);
    if (!rc) {
        qs_arena arena = {.base = memory.base, .capacity = memory.bytes};
        qs_quantise_on_load_open(&a, &layout, source, aio, cpu, &arena, &reader);
        f->model = qs_strdup(dir);
        *dates = qs_source_dates(source);
        rc = compare_blobs(cache, reader, c->blobs, f, e);
    }
    qs_quantise_on_load_close(reader);
    qs_region_free(&memory);
    qs_device_close(cpu);
    qs_source_close(source);
    return rc;
}

int qs_cache_verify_layers(const qs_cache_entry *c, const char *model, qs_cache_findings *f, qs_err *e)
{
    const char *dir = model ? model : c->model_path;
    const char *const *parts = (const char *const *)c->parts;
    qs_cache_key key = {.model = c->model,
                        .path = c->model_path,
                        .fingerprint = c->fingerprint,
                        .format = c->format,
                        .blobs = c->blobs,
                        .blob_bytes = c->blob_bytes};
    qs_cache *cache = NULL;
    qs_aio *aio = NULL;
    *f = (qs_cache_findings){0};
    int rc = qs_aio_open(&(qs_aio_config){.depth = 64}, &aio, e);
    if (!rc) rc = qs_cache_open(parts, c->part_count, &key, &cache, e);
    if (!rc) rc = check_blobs(cache, c, aio, f, e);
    if (!rc && (!dir || !qs_file_exists(dir)))
        snprintf(f->why_not, sizeof f->why_not, "%.200s is not there", dir ? dir : "its model");
    else if (!rc)
        rc = compare_model(cache, c, dir, aio, f, &key.dates, e);
    key.path = dir;
    if (!rc && f->model && !f->changed)
        rc = qs_cache_manifests_write(c->parts, c->part_count, &key, true,
                                      e); /* the same model by all its bytes, whatever its dates */
    qs_cache_close(cache);
    qs_aio_close(aio);
    return rc;
}
