// The scene of most histories: clients that send by chance, to sites in good and bad moods.
#include <stdio.h>
#include <string.h>

#include "config/load.h"
#include "tests/sim/checkers.h"
#include "tests/sim/client.h"
#include "tests/sim/disk.h"
#include "tests/sim/peer.h"
#include "tests/sim/scene.h"
#include "tests/sim/sim.h"

static void prepare(struct sim *sim)
{
    sim_ledger_init(&sim->ledger);
    sim_disk_place(sim->disk, "/crl.pem", sim_certificates_crl());
    sim->peers = sim_peers_create(sim);
    sim->clients = sim_clients_create(sim);
}

static bool read_file(void *owner, const char *path, struct ph_buf *out, unsigned *out_mode,
                      struct ph_buf *error)
{
    (void)owner;
    *out_mode = 0600;
    if (strcmp(path, "/root.pem") == 0) {
        return ph_buf_append(out, sim_certificates_root());
    }
    if (strcmp(path, "/crl.pem") == 0) {
        return ph_buf_append(out, sim_certificates_crl());
    }
    ph_buf_printf(error, "no such file");
    return false;
}

static struct ph_config *configure(struct sim *sim)
{
    struct ph_config_files files = {.read = read_file};
    struct ph_buf text = {0};
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_config *config;

    ph_buf_printf(&text,
                  "Hostname = \"out.example\"\nSpoolDir = \"/var/spool\"\n"
                  "ReceiveConnector \"in\" { Bindings = {\"127.0.0.1:%u\"}\n"
                  "RemoteIPRanges = {\"127.0.0.0/8\"} }\n"
                  "Resolver { AllowedDestinations = {\"198.51.100.0/24\"} }\n"
                  "Queue { MessageRetryInterval = %um }\n",
                  SIM_INGEST_PORT, 5 + sim->reloads_done % 3);
    sim_peers_connectors(&text);
    config = ph_config_parse_text("sim.conf", ph_buf_str(&text), &files, &errors, &warnings);
    if (config == NULL) {
        fprintf(stderr, "the simulator's configuration: %.*s\n", PH_STR_ARG(ph_buf_str(&errors)));
    }
    PH_CHECK(config != NULL);
    ph_buf_deinit(&text);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
    return config;
}

static void zone(struct sim *sim, struct ph_buf *out)
{
    (void)sim;
    sim_peers_zone(out);
}

static bool listens(struct sim *sim, const struct ph_endpoint *at)
{
    return sim_peers_listen(sim->peers, at);
}

static void accept_conn(struct sim *sim, struct sim_conn *conn, const struct ph_endpoint *at)
{
    sim_peers_accept(sim->peers, conn, at);
}

static bool enough(struct sim *sim)
{
    return sim_clients_done(sim->clients);
}

static bool drained(struct sim *sim)
{
    return sim_queued(sim) == 0 && sim_clients_done(sim->clients);
}

static void stalled(struct sim *sim)
{
    sim_fail(sim, "stalled: %llu recipients are still queued long after all faults",
             (unsigned long long)sim_queued(sim));
}

static bool owed(struct sim *sim, uint64_t recipients)
{
    (void)sim;
    return recipients == 0;
}

const struct sim_scene sim_history = {
    .prepare = prepare,
    .configure = configure,
    .zone = zone,
    .listens = listens,
    .accept = accept_conn,
    .log = sim_check_log,
    .enough = enough,
    .drained = drained,
    .stalled = stalled,
    .check = sim_check_end,
    .owed = owed,
};
