// Wrong passwords of late: GCRA with a burst, in a table of fixed size.
#include "engine/guesses.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/hash.h"

#define SECOND_NS UINT64_C(1000000000)
#define PROBES 8 // places where a key may stand; the one that matters least makes way

struct slot {
    uint64_t key;     // 0: free
    uint64_t next_ns; // when the next wrong one would be on the dot
};

struct ph_guesses {
    pthread_mutex_t lock;
    uint64_t seed;
    struct slot slots[PH_GUESSES_SLOTS];
};

struct ph_guesses *ph_guesses_create(uint64_t seed)
{
    struct ph_guesses *guesses = ph_alloc(sizeof(*guesses));

    pthread_mutex_init(&guesses->lock, NULL);
    guesses->seed = seed;
    return guesses;
}

void ph_guesses_destroy(struct ph_guesses *guesses)
{
    if (guesses != NULL) {
        pthread_mutex_destroy(&guesses->lock);
        free(guesses);
    }
}

static uint64_t source_key(const struct ph_guesses *guesses, const struct ph_endpoint *source)
{
    return ph_hash_bytes(source->bytes, source->family == PH_FAMILY_IPV4 ? 4 : 8, guesses->seed) |
           1;
}

static uint64_t user_key(const struct ph_guesses *guesses, struct ph_str user)
{
    return ph_hash_str_nocase(user, ~guesses->seed) | 1;
}

static struct slot *find(struct ph_guesses *guesses, uint64_t key)
{
    struct slot *least = NULL;

    for (uint64_t i = 0; i < PROBES; i++) {
        struct slot *slot = &guesses->slots[(key / 2 + i) % PH_GUESSES_SLOTS];

        if (slot->key == key) {
            return slot;
        }
        if (least == NULL || slot->next_ns < least->next_ns) {
            least = slot;
        }
    }
    return least;
}

static bool allows(struct ph_guesses *guesses, uint64_t key, uint64_t now_ns, uint64_t burst,
                   uint64_t spacing_s)
{
    const struct slot *slot = find(guesses, key);

    return slot->key != key || slot->next_ns <= now_ns + (burst - 1) * spacing_s * SECOND_NS;
}

bool ph_guesses_allow(struct ph_guesses *guesses, uint64_t now_ns, const struct ph_endpoint *source,
                      struct ph_str user)
{
    bool allowed;

    pthread_mutex_lock(&guesses->lock);
    allowed = allows(guesses, source_key(guesses, source), now_ns, PH_GUESSES_SOURCE_BURST,
                     PH_GUESSES_SOURCE_SPACING_S) &&
              allows(guesses, user_key(guesses, user), now_ns, PH_GUESSES_USER_BURST,
                     PH_GUESSES_USER_SPACING_S);
    pthread_mutex_unlock(&guesses->lock);
    return allowed;
}

static void count(struct ph_guesses *guesses, uint64_t key, uint64_t now_ns, uint64_t spacing_s)
{
    struct slot *slot = find(guesses, key);
    uint64_t from = slot->key == key && slot->next_ns > now_ns ? slot->next_ns : now_ns;

    *slot = (struct slot){.key = key, .next_ns = from + spacing_s * SECOND_NS};
}

void ph_guesses_wrong(struct ph_guesses *guesses, uint64_t now_ns, const struct ph_endpoint *source,
                      struct ph_str user)
{
    pthread_mutex_lock(&guesses->lock);
    count(guesses, source_key(guesses, source), now_ns, PH_GUESSES_SOURCE_SPACING_S);
    count(guesses, user_key(guesses, user), now_ns, PH_GUESSES_USER_SPACING_S);
    pthread_mutex_unlock(&guesses->lock);
}
