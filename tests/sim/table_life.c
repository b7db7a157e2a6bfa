// Rows that take hours and days: how long mail waits that forced TLS holds, and what its sender is
// told.
#include <stdlib.h>

#include "tests/sim/table_parts.h"

#define SECOND_NS (1000 * PH_NS_PER_MS)
#define DELAY_S (4 * 3600) // DelayNotificationTimeout
#define END_S (48 * 3600)  // MessageExpirationTimeout
#define LATE_S (12 * 60)   // a retry later at most, and what a conversation takes
#define ATTEMPT_S 60       // what an attempt itself takes, at most

// Told within `late_s` behind the time? Counted from the message's first attempt.
static bool told_in_time(const struct table_play *play, uint64_t told_ns, uint64_t after_s)
{
    const struct table_session *first = STAILQ_FIRST(&play->sessions);
    uint64_t since_ns = told_ns - (first != NULL ? first->began_ns : 0);

    return first != NULL && told_ns > first->began_ns &&
           since_ns + ATTEMPT_S * SECOND_NS >= after_s * SECOND_NS &&
           since_ns <= (after_s + LATE_S) * SECOND_NS;
}

static void judge_life(struct table_play *play)
{
    const struct table_recipient *r = &play->recipients[0];
    const struct table_session *s;

    if (r->expired != 1 || r->accepts > 0) {
        table_fail(play, "it expired %u times", r->expired);
    } else if (!r->told_delayed || !told_in_time(play, r->delayed_ns, DELAY_S)) {
        table_fail(play, "its sender wasn't told of the delay, or not after four hours");
    } else if (!r->told_failed || !told_in_time(play, r->failed_ns, END_S)) {
        table_fail(play, "its sender wasn't told of the end, or not after two days");
    }
    STAILQ_FOREACH(s, &play->sessions, entry)
    {
        if (s->beyond[0] != '\0') {
            table_fail(play, "said to the host: %s", s->beyond);
        }
    }
}

// "0,5,10,…": minutes of the attempts, each interval up to a tenth longer.
static void judge_schedule(struct table_play *play)
{
    const char *at = table_word(&play->row->outcomes[0].also, "at");
    const struct table_session *s = STAILQ_FIRST(&play->sessions);
    uint64_t last_min = 0;
    uint64_t last_ns = 0;
    unsigned count = 0;

    while (at != NULL && *at != '\0' && s != NULL) {
        char *end;
        uint64_t minute = strtoul(at, &end, 10);
        uint64_t least_ns = (minute - last_min) * 60 * SECOND_NS;
        uint64_t took_ns = s->began_ns - last_ns;

        if (count > 0 &&
            (took_ns < least_ns || took_ns > least_ns + least_ns / 10 + ATTEMPT_S * SECOND_NS)) {
            table_fail(play, "attempt %u came %llu s after the one before", count + 1,
                       (unsigned long long)(took_ns / SECOND_NS));
        }
        last_min = minute;
        last_ns = s->began_ns;
        s = STAILQ_NEXT(s, entry);
        at = *end == ',' ? end + 1 : end;
        count++;
    }
    if (at == NULL || *at != '\0' || count < 2) {
        table_fail(play, "only %u attempts", count);
    }
}

void table_judge_lives(struct sim_stage *stage)
{
    for (unsigned i = 0; i < stage->table->row_count; i++) {
        struct table_play *play = stage->plays[i];

        if (play != NULL && table_has_step(play->row, "life")) {
            judge_life(play);
        } else if (play != NULL) {
            judge_schedule(play);
        }
    }
}
