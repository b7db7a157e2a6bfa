// What the files of the client share: smtp/client (the conversation) and smtp/client_output (bytes
// on their way out). Nobody else includes it.
#pragma once

#include "smtp/client.h"

// Bytes on their way out: command text of our own, slices of bodies, a body that is dot-stuffed.
enum ph_client_part_kind {
    PH_CLIENT_PART_BYTES,
    PH_CLIENT_PART_STUFFED,
};

struct ph_client_part {
    enum ph_client_part_kind kind;
    const char *data;                                // BYTES
    uint64_t len;                                    // what is left of it
    const struct ph_client_transaction *transaction; // STUFFED
};

#define PH_CLIENT_BLOCK_BYTES 8064 // of command text; with its head just under 8 KiB

// Command text stays where it is until it was sent: the network borrows it.
struct ph_client_block {
    TAILQ_ENTRY(ph_client_block) link;
    uint64_t last_offset; // of output, behind its last text
    size_t used;
    char text[PH_CLIENT_BLOCK_BYTES];
};

struct ph_client_output {
    struct ph_client_part *parts; // ring
    uint32_t part_cap;            // power of two
    uint32_t part_first;
    uint32_t part_count;
    TAILQ_HEAD(ph_client_block_list, ph_client_block)
    blocks;                 // oldest first; the last one is written to
    uint64_t end_offset;    // of all that was ever put in
    uint64_t sent_offset;   // of all that was ever sent
    uint64_t handed_offset; // of what the network has, whether or not it has said so yet
    // The stuffed body at the front: where it is read, and what was made of it.
    int slice;
    size_t slice_at;
    bool line_start;
    struct ph_buf stuffed;
    size_t stuffed_at;
    // Who watches what is said: bodies are not shown, nor is what is secret.
    void (*watch)(void *owner, struct ph_str text);
    void *watch_owner;
    bool secret;
};

void ph_client_output_init(struct ph_client_output *output);
void ph_client_output_deinit(struct ph_client_output *output);
void ph_client_output_text(struct ph_client_output *output, struct ph_str text);
void ph_client_output_printf(struct ph_client_output *output, const char *format, ...)
    PH_PRINTF(2, 3);
// The body as it is, for BDAT.
void ph_client_output_body(struct ph_client_output *output,
                           const struct ph_client_transaction *transaction);
// The body for DATA, dots at the start of a line doubled, with the dot that ends it.
void ph_client_output_stuffed(struct ph_client_output *output,
                              const struct ph_client_transaction *transaction);
int ph_client_output_slices(struct ph_client_output *output, struct iovec *out, int max);
void ph_client_output_sent(struct ph_client_output *output, uint64_t len);
// Nothing of it will be sent any more: borrowed bytes are given back.
void ph_client_output_drop(struct ph_client_output *output);
