/* plan_changes.h - what would make a planned run faster: the same job with one thing changed, and on other
 * cards. */
#ifndef QS_COMMANDS_PLAN_CHANGES_H
#define QS_COMMANDS_PLAN_CHANGES_H

#include <jansson.h>

#include "src/commands/planned.h"

enum { QS_CHANGES_MAX = 24 };

typedef struct qs_plan_change {
    char what[96]; /* an option as one would write it, or a card */
    double tokens_per_second;
} qs_plan_change;

typedef struct qs_plan_changes {
    double tokens_per_second; /* of the plan itself; 0: not known, and nothing was tried */
    qs_plan_change change[QS_CHANGES_MAX], card[QS_CHANGES_MAX]; /* the fastest first */
    int changes, cards;
} qs_plan_changes;

/* Plans again with one option changed at a time, and for a plan on paper or on a processor with other cards.
 * What does not fit, or is not measured, is left out. */
void qs_plan_try_changes(int argc, char **argv, const qs_planned *plan, qs_plan_changes *out);

void qs_plan_changes_print(const qs_plan_changes *c, FILE *f);
/* Adds "changes" and "cards" to the plan's object. */
void qs_plan_changes_json(const qs_plan_changes *c, json_t *plan);

#endif
