/* planned.h - a plan made from a command line, with all that it stands on. */
#ifndef QS_COMMANDS_PLANNED_H
#define QS_COMMANDS_PLANNED_H

#include "src/train/engine.h"

/* The options that only `plan` has. */
typedef struct qs_plan_options {
    char *shape, *hardware;
    int64_t layers;
    double nvme;
    uint64_t host_ram;
    bool changes, json;
    uint8_t source[8];
} qs_plan_options;

/* A plan with all that it stands on. */
typedef struct qs_planned {
    qs_options o;
    qs_plan_options p;
    qs_hardware card;
    qs_engine engine;
} qs_planned;

/* Makes the plan that a command line asks for; `measure` lets it measure this machine and say what it does.
 * qs_planned_free(out) in any case. */
int qs_planned_make(int argc, char **argv, bool measure, qs_planned *out, qs_err *e);
void qs_planned_free(qs_planned *p);

/* The help of the options that only `plan` has. */
void qs_planned_options_help(FILE *f);

#endif
