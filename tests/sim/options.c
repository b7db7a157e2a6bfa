// A swarm: each seed has its own mixture of faults.
#include "tests/sim/options.h"

#include <stdio.h>
#include <string.h>

#include "tests/sim/random.h"

#define SIM_MESSAGES_MIN 200 // each history acknowledges so many
#define SIM_SEGMENT_BYTES_MIN (UINT64_C(256) << 10)

static const struct {
    const char *name;
    unsigned percent;
    const char *text;
} known[] = {
#define SIM_OPTION_ROW(name, percent, text) {#name, percent, text},
    SIM_OPTIONS(SIM_OPTION_ROW)
#undef SIM_OPTION_ROW
};

static const struct {
    const char *name;
    const char *text;
} plants[] = {{"none", "nothing"},
#define SIM_PLANT_ROW(name, text) {#name, text},
              SIM_PLANTS(SIM_PLANT_ROW)
#undef SIM_PLANT_ROW
};

static const struct {
    const char *name;
    const char *text;
} failures[] = {
#define SIM_FAILURE_ROW(name, text) {#name, text},
    SIM_FAILURES(SIM_FAILURE_ROW)
#undef SIM_FAILURE_ROW
};

static const struct {
    const char *name;
    bool power;
    const char *text;
} ends[] = {
#define SIM_END_ROW(name, power, text) {#name, power, text},
    SIM_ENDS(SIM_END_ROW)
#undef SIM_END_ROW
};

void sim_options_choose(struct sim_options *options, uint64_t seed)
{
    struct sim_random random;

    sim_random_init(&random, seed ^ UINT64_C(0x5157a3));
    options->seed = seed;
    for (unsigned i = 0; i < SIM_OPTION_COUNT; i++) {
        bool chosen = sim_chance(&random, known[i].percent * 10);

        chosen |= i == SIM_power_cut && seed % 2 == 1;
        options->on[i] = (chosen || options->forced[i]) && !options->dropped[i];
    }
    if (options->on[SIM_damage]) {
        // A group that failed is undone by a record: with that damaged it may count again.
        options->on[SIM_disk_errors] = options->on[SIM_disk_full] = false;
    }
    options->messages = (unsigned)sim_between(&random, SIM_MESSAGES_MIN, SIM_MESSAGES_MIN + 40);
    options->messages = options->messages_wanted > 0 ? options->messages_wanted : options->messages;
    options->workers = sim_chance(&random, 200) ? 3 : 2;
    options->clients = (unsigned)sim_between(&random, 3, 16);
    options->crashes = (unsigned)sim_between(&random, 1, 3);
    options->segment_bytes = (uint64_t)4096 << sim_between(&random, 6, 8);
    if (options->messages < SIM_MESSAGES_MIN / 2) {
        options->segment_bytes = SIM_SEGMENT_BYTES_MIN; // what isn't used need not be filled
    }
    options->latency_min_ns = sim_between(&random, 10000, 1000000);
    options->latency_max_ns = options->latency_min_ns + sim_between(&random, 1, 40) * 1000000;
}

void sim_options_print(const struct sim_options *options, struct ph_buf *out)
{
    ph_buf_printf(out, "seed %llu options: workers=%u clients=%u messages=%u segment=%lluK",
                  (unsigned long long)options->seed, options->workers, options->clients,
                  options->messages, (unsigned long long)options->segment_bytes / 1024);
    if (options->on[SIM_power_cut] || options->on[SIM_kill]) {
        ph_buf_printf(out, " crashes=%u", options->crashes);
    }
    for (unsigned i = 0; i < SIM_OPTION_COUNT; i++) {
        if (options->on[i]) {
            ph_buf_printf(out, " %s", known[i].name);
        }
    }
    if (options->fail_at > 0) {
        ph_buf_printf(out, " fail_at=%u %s%s", options->fail_at, failures[options->fail_as].name,
                      options->fail_for_good ? " for good" : "");
    }
    if (options->crash_at > 0) {
        ph_buf_printf(out, " crash_at=%llu crash_again=%llu as=%s",
                      (unsigned long long)options->crash_at,
                      (unsigned long long)options->crash_again, ends[options->crash_as].name);
    }
    if (options->plant != SIM_PLANT_NONE) {
        ph_buf_printf(out, " plant=%s", plants[options->plant].name);
    }
    ph_buf_append_char(out, '\n');
}

const char *sim_option_name(enum sim_option option)
{
    return known[option].name;
}

const char *sim_plant_name(enum sim_plant plant)
{
    return plants[plant].name;
}

bool sim_option_from(const char *name, enum sim_option *out)
{
    for (unsigned i = 0; i < SIM_OPTION_COUNT; i++) {
        if (strcmp(known[i].name, name) == 0) {
            *out = (enum sim_option)i;
            return true;
        }
    }
    return false;
}

bool sim_plant_from(const char *name, enum sim_plant *out)
{
    for (unsigned i = 0; i < SIM_PLANT_COUNT; i++) {
        if (strcmp(plants[i].name, name) == 0) {
            *out = (enum sim_plant)i;
            return true;
        }
    }
    return false;
}

bool sim_failure_from(const char *name, enum sim_failure *out)
{
    for (unsigned i = 0; i < SIM_FAILURE_COUNT; i++) {
        if (strcmp(failures[i].name, name) == 0) {
            *out = (enum sim_failure)i;
            return true;
        }
    }
    return false;
}

const char *sim_failure_name(enum sim_failure failure)
{
    return failures[failure].name;
}

bool sim_end_from(const char *name, enum sim_end *out)
{
    for (unsigned i = 0; i < SIM_END_COUNT; i++) {
        if (strcmp(ends[i].name, name) == 0) {
            *out = (enum sim_end)i;
            return true;
        }
    }
    return false;
}

const char *sim_end_name(enum sim_end end)
{
    return ends[end].name;
}

bool sim_end_is_power(enum sim_end end)
{
    return ends[end].power;
}

void sim_options_help(void)
{
    printf("faults (percent of the seeds that have them):\n");
    for (unsigned i = 0; i < SIM_OPTION_COUNT; i++) {
        printf("  %-18s %3u  %s\n", known[i].name, i == SIM_power_cut ? 50 : known[i].percent,
               known[i].text);
    }
    printf("failures (--fail-as):\n");
    for (unsigned i = 0; i < SIM_FAILURE_COUNT; i++) {
        printf("  %-18s      %s\n", failures[i].name, failures[i].text);
    }
    printf("ends (--as):\n");
    for (unsigned i = 0; i < SIM_END_COUNT; i++) {
        printf("  %-18s      %s\n", ends[i].name, ends[i].text);
    }
    printf("planted bugs:\n");
    for (unsigned i = 1; i < SIM_PLANT_COUNT; i++) {
        printf("  %-18s      %s\n", plants[i].name, plants[i].text);
    }
}
