// A message's envelope and content in memory, shared by counted references.
#pragma once

#include <stdatomic.h>
#include <stdint.h>
#include <sys/uio.h>

#include "smtp/envelope.h"

#define PH_CONTENT_MARK "X-MS-Exchange-Organization-"

// Fresh from ingest, or read back. Immutable; the references are atomic, since a home worker may
// hold another's.
struct ph_content {
    _Atomic uint32_t references;
    void (*destroy)(struct ph_content *content); // the maker's; runs once, after the last release
    struct ph_envelope envelope;                 // strings and recipients live as long as this
    const struct iovec *body;
    int body_count;
    uint64_t body_len;
};

// The content without the marks in front of it, which say within an organization who a message was
// authenticated as (X-MS-Exchange-Organization-*, put there by ourselves alone): what others get.
struct iovec ph_content_beyond_marks(const struct ph_content *content);

// With one reference, the caller's.
void ph_content_init(struct ph_content *content, void (*destroy)(struct ph_content *content));
void ph_content_retain(struct ph_content *content);
void ph_content_release(struct ph_content *content); // NULL accepted
