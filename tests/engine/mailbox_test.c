#include "engine/mailbox.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>

#define POSTERS 4
#define EACH 50000

static _Atomic unsigned wakes;

static void count_wake(struct ph_io *io)
{
    (void)io;
    atomic_fetch_add(&wakes, 1);
}

static const struct ph_io_vtable vtable = {.name = "none", .wake = count_wake};
static struct ph_mailbox mailbox;

struct numbered {
    struct ph_mail mail;
    unsigned number;
};

static void *post_many(void *argument)
{
    struct numbered *all = argument;

    for (unsigned i = 0; i < EACH; i++) {
        ph_mailbox_post(&mailbox, &all[i].mail);
    }
    return NULL;
}

Test(mailbox, nothing_is_lost_and_each_senders_order_is_kept)
{
    static struct numbered mail[POSTERS][EACH];
    static unsigned next[POSTERS];
    struct ph_io io;
    pthread_t threads[POSTERS];
    unsigned received = 0;

    ph_io_init(&io, &vtable);
    ph_mailbox_init(&mailbox, &io);
    for (uint16_t t = 0; t < POSTERS; t++) {
        for (unsigned i = 0; i < EACH; i++) {
            mail[t][i] = (struct numbered){.mail.from = t, .number = i};
        }
        cr_assert_eq(pthread_create(&threads[t], NULL, post_many, mail[t]), 0);
    }
    while (received < POSTERS * EACH) {
        for (struct ph_mail *m = ph_mailbox_take(&mailbox); m != NULL; m = m->next) {
            cr_assert_eq(PH_CONTAINER_OF(m, struct numbered, mail)->number, next[m->from]);
            next[m->from]++;
            received++;
        }
    }
    for (int t = 0; t < POSTERS; t++) {
        pthread_join(threads[t], NULL);
    }
    cr_assert_null(ph_mailbox_take(&mailbox));
    // Only mail to an empty box wakes its owner.
    cr_assert(wakes >= 1 && wakes <= POSTERS * EACH);
}

Test(mailbox, one_wake_up_for_a_box_that_fills)
{
    struct ph_io io;
    struct ph_mail mail[3] = {0};

    ph_io_init(&io, &vtable);
    ph_mailbox_init(&mailbox, &io);
    for (int i = 0; i < 3; i++) {
        ph_mailbox_post(&mailbox, &mail[i]);
    }
    cr_assert_eq(wakes, 1);
    cr_assert_eq(ph_mailbox_take(&mailbox), &mail[0]);
    ph_mailbox_post(&mailbox, &mail[0]);
    cr_assert_eq(wakes, 2);
}
