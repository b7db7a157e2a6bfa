// Messages between workers: many post, one takes. Each piece of mail brings its own node, so a
// mailbox is never full.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/io.h"

enum ph_mail_kind {
    PH_MAIL_SOCKET,          // an accepted connection (struct ph_mail_socket)
    PH_MAIL_SITE,            // between a site and its account (struct ph_mail_site)
    PH_MAIL_DISPATCH,        // a message pulled by its site's home (struct ph_dispatch)
    PH_MAIL_DISPATCH_RESULT, // and back
    PH_MAIL_CALL,            // run this on the worker's thread (struct ph_mail_call)
};

struct ph_mail {
    struct ph_mail *next;
    enum ph_mail_kind kind;
    uint16_t from; // worker
};

struct ph_worker;

// The function owns the mail from then on (it frees it, or signals its sender).
struct ph_mail_call {
    struct ph_mail mail;
    void (*call)(struct ph_worker *worker, struct ph_mail_call *mail);
    void *argument;
};

struct ph_mailbox {
    _Atomic(struct ph_mail *) newest;
    struct ph_io *io; // woken when mail comes to an empty box
};

void ph_mailbox_init(struct ph_mailbox *mailbox, struct ph_io *io);
// From any thread. The mail belongs to the receiver.
void ph_mailbox_post(struct ph_mailbox *mailbox, struct ph_mail *take_mail);
// All that has come, oldest first; NULL: nothing. By the owner.
struct ph_mail *ph_mailbox_take(struct ph_mailbox *mailbox);
