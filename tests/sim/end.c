// The ends of a process that nobody ordered: by chance, or at an event that was asked for.
#include "tests/sim/disk.h"
#include "tests/sim/sim.h"

#define WAITS_EVENTS 1000 // for a write to be under way

void sim_end_plan(struct sim *sim)
{
    const struct sim_options *o = &sim->options;
    bool early = sim->life > 1 && o->on[SIM_crash_in_recovery] && sim_chance(&sim->random, 500);

    sim->crash_at_event = 0;
    sim->life_began = sim->events;
    if (sim->calm || sim->crashes_done >= o->crashes || o->crash_at > 0 ||
        (!o->on[SIM_power_cut] && !o->on[SIM_kill])) {
        return;
    }
    sim->crash_by_power = o->on[SIM_power_cut] && (!o->on[SIM_kill] || sim->crashes_done == 0 ||
                                                   sim_chance(&sim->random, 500));
    sim->crash_in_write = sim_chance(&sim->random, 500);
    sim->crash_at_event = sim->events + (early ? sim_between(&sim->random, 1, 150)
                                               : sim_between(&sim->random, 50, 12000));
}

// In the middle of what an orderly end or a calm time does, too.
static bool asked_for(struct sim *sim)
{
    const struct sim_options *o = &sim->options;
    uint64_t at = sim->report.ends == 0 ? o->crash_at : sim->report.ends == 1 ? o->crash_again : 0;
    uint64_t now = sim->events + 1 - (sim->report.ends == 0 ? 0 : sim->life_began);

    return at > 0 && now == at && (sim->report.ends == 0 || !sim->running);
}

bool sim_end_is_due(struct sim *sim)
{
    if (asked_for(sim)) {
        sim->crash_by_power = sim_end_is_power(sim->options.crash_as);
        return true;
    }
    if (sim->crash_at_event != 0 && sim->events >= sim->crash_at_event && !sim->calm &&
        (!sim->crash_in_write || sim_disk_writes(sim->disk) ||
         sim->events >= sim->crash_at_event + WAITS_EVENTS)) {
        sim->crash_at_event = 0;
        return true;
    }
    return false;
}

void sim_end_note(struct sim *sim)
{
    struct sim_report *report = &sim->report;

    if (report->ends < SIM_REPORT_ENDS_MAX) {
        report->disks[report->ends] = sim_disk_sum(sim->disk);
    }
    report->ends++;
    report->ends_in_start += !sim->running;
}
