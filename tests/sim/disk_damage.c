// Media damage: bytes that were durable are others when they are read again. Where they lay is
// noted against the messages whose bytes they were, by what clients sent and the format of records
// (docs/spool-format.md), so that the checkers know which may be lost with a report, and that no
// other is.
//
// What nothing durable stands behind isn't damaged: a log can't tell its last group from a torn one
// that nobody was told of.
#include <stdio.h>
#include <string.h>

#include "tests/sim/disk_parts.h"

#define SENDER_AT 70           // of a MESSAGE record: where its reverse-path begins
#define RECORD_BYTES_MAX 65536 // longer is none of ours
#define TRACE_BYTES_MAX 700    // of the field that is put in front of a content
#define NOTIFICATION_BYTES 4096
#define LARGEST_BLOCK 4096

struct range {
    size_t from;
    size_t to;
};

static bool overlap(struct range a, struct range b)
{
    return a.from < b.to && b.from < a.to;
}

static bool is_segment(const char *path)
{
    return strstr(path, "/seg-") != NULL;
}

// The bytes of a file that may be damaged.
static size_t damageable(const struct entry *entry)
{
    const char *name = strrchr(entry->path, '/');

    if (entry->inode == NULL || strncmp(entry->path, "/var/spool/", 11) != 0 ||
        strcmp(name, "/format.copy") == 0) { // not both of a pair
        return 0;
    }
    return is_segment(entry->path) ? (size_t)entry->inode->behind : entry->inode->durable.len;
}

// --- whose bytes they are ---

// Numbers that follow `token` in the image: where the token stands, one after another.
static bool next_token(const struct image *image, const char *token, size_t *at, unsigned *out_id)
{
    size_t len = strlen(token);
    const char *found;

    while (*at < image->len && (found = memmem(image->bytes + *at, image->len - *at, token, len))) {
        size_t digit = (size_t)(found - (const char *)image->bytes) + len;
        size_t begin = digit - len;
        unsigned id = 0;

        while (digit < image->len && image->bytes[digit] >= '0' && image->bytes[digit] <= '9') {
            id = id * 10 + (unsigned)(image->bytes[digit++] - '0');
        }
        *at = digit;
        if (digit > begin + len) {
            *out_id = id;
            return *at = begin, true;
        }
    }
    return false;
}

static void note(struct sim *sim, unsigned id)
{
    struct sim_message *message = sim_ledger_message(sim, id);

    if (message != NULL) {
        message->damaged = true;
        sim_trace(sim, "damaged", id, 0, 0);
    }
}

static void note_contents(struct sim *sim, const struct image *image, struct range damage)
{
    size_t at = 0;
    unsigned id;

    while (next_token(image, "X-Sim-Id: ", &at, &id)) {
        const struct sim_message *message = sim_ledger_message(sim, id);
        size_t before = at < TRACE_BYTES_MAX ? at : TRACE_BYTES_MAX;
        const uint8_t *trace = NULL;

        // The last field in front of it that is ours.
        for (size_t back = 1; trace == NULL && back <= before; back++) {
            if (memcmp(image->bytes + at - back, "Received: ", 10) == 0) {
                trace = image->bytes + at - back;
            }
        }
        if (message != NULL) {
            size_t from = trace != NULL ? (size_t)(trace - image->bytes) : at - before;

            if (overlap(damage, (struct range){from, at + 64 + message->bytes + 80})) {
                note(sim, id);
            }
        }
        at++;
    }
}

// Records of messages, and notifications to that sender.
static void note_records(struct sim *sim, const struct image *image, struct range damage)
{
    size_t at = 0;
    unsigned id;

    while (next_token(image, "s", &at, &id)) {
        char address[32];
        size_t len = (size_t)snprintf(address, sizeof(address), "s%u@origin.example", id);

        if (at + len <= image->len && memcmp(image->bytes + at, address, len) == 0) {
            const uint8_t *record = at >= SENDER_AT ? image->bytes + at - SENDER_AT : NULL;
            size_t record_len = 0;
            struct range bytes = {at < NOTIFICATION_BYTES ? 0 : at - NOTIFICATION_BYTES,
                                  at + NOTIFICATION_BYTES};

            if (record != NULL && record[0] == 1 && record[1] == 1) {
                memcpy(&record_len, record + 4, 4);
            }
            if (record_len > SENDER_AT && record_len < RECORD_BYTES_MAX) {
                bytes = (struct range){at - SENDER_AT, at - SENDER_AT + record_len};
            }
            if (overlap(damage, bytes)) {
                note(sim, id);
            }
        }
        at++;
    }
}

static void note_all(struct sim *sim, const struct image *image, struct range damage)
{
    note_contents(sim, image, damage);
    note_records(sim, image, damage);
    sim->damages++;
}

// --- damage ---

static struct entry *choose_file(struct sim_disk *disk)
{
    size_t sum = 0;
    size_t at;

    for (size_t i = 0; i < disk->names.count; i++) {
        sum += damageable(&disk->names.entries[i]);
    }
    if (sum == 0) {
        return NULL;
    }
    at = (size_t)sim_below(&disk->sim->random, sum);
    for (size_t i = 0;; i++) {
        size_t bytes = damageable(&disk->names.entries[i]);

        if (at < bytes) {
            return &disk->names.entries[i];
        }
        at -= bytes;
    }
}

static void spoil_range(struct sim *sim, struct image *image, struct range range, unsigned how)
{
    for (size_t i = range.from; i < range.to && i < image->len; i++) {
        if (how == 0) {
            image->bytes[i] ^= (uint8_t)(1u << sim_below(&sim->random, 8));
        } else if (how == 1) {
            image->bytes[i] = 0;
        } else {
            image->bytes[i] = (uint8_t)sim_below(&sim->random, 256);
        }
    }
}

// One place: a bit, a sector of zeros, a sector or a block of noise.
static void damage_once(struct sim_disk *disk)
{
    static const size_t lengths[] = {1, SIM_SECTOR_BYTES, SIM_SECTOR_BYTES, LARGEST_BLOCK};
    struct sim *sim = disk->sim;
    struct entry *entry = choose_file(disk);
    unsigned how = sim_chance(&sim->random, 600) ? 0 : (unsigned)sim_between(&sim->random, 1, 3);
    struct range range;
    size_t most;

    if (entry == NULL) {
        return;
    }
    most = damageable(entry);
    range.from = (size_t)sim_below(&sim->random, most);
    if (sim_chance(&sim->random, 400)) {
        // Rather where records are: at the beginning of a group.
        range.from -= range.from % LARGEST_BLOCK;
        range.from += (size_t)sim_below(&sim->random, 400);
    }
    range.from -= range.from % lengths[how];
    range.to = range.from + lengths[how];
    range.to = range.to < most ? range.to : most;
    if (range.from >= range.to) {
        return;
    }
    sim_trace_text(sim, "damage", ph_str_from(entry->path));
    sim_trace(sim, "at", range.from, range.to, how);
    note_all(sim, &entry->inode->durable, range);
    spoil_range(sim, &entry->inode->durable, range, how);
    sim_image_copy_range(&entry->inode->seen, &entry->inode->durable, range.from,
                         range.to - range.from);
}

void sim_disk_damage(struct sim_disk *disk, unsigned places_max)
{
    uint64_t places = sim_between(&disk->sim->random, 1, places_max);

    for (uint64_t i = 0; i < places; i++) {
        damage_once(disk);
    }
}
