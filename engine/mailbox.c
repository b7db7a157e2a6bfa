// Messages between workers.
#include "engine/mailbox.h"

void ph_mailbox_init(struct ph_mailbox *mailbox, struct ph_io *io)
{
    atomic_init(&mailbox->newest, NULL);
    mailbox->io = io;
}

void ph_mailbox_post(struct ph_mailbox *mailbox, struct ph_mail *take_mail)
{
    struct ph_mail *newest = atomic_load_explicit(&mailbox->newest, memory_order_relaxed);

    do {
        take_mail->next = newest;
    } while (!atomic_compare_exchange_weak_explicit(&mailbox->newest, &newest, take_mail,
                                                    memory_order_release, memory_order_relaxed));
    // Only the first into an empty box wakes: at most one wake-up per turn of the owner.
    if (newest == NULL) {
        ph_io_wake(mailbox->io);
    }
}

struct ph_mail *ph_mailbox_take(struct ph_mailbox *mailbox)
{
    struct ph_mail *mail = atomic_exchange_explicit(&mailbox->newest, NULL, memory_order_acquire);
    struct ph_mail *oldest = NULL;

    while (mail != NULL) {
        struct ph_mail *next = mail->next;

        mail->next = oldest;
        oldest = mail;
        mail = next;
    }
    return oldest;
}
