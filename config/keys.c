// Every key of the configuration.
#include "config/keys.h"

#include "base/check.h"

#define ROW(id, name, type, fallback, min, max, choices, state)                                    \
    {name, PH_KEY_##type, fallback, min, max, choices, PH_KEY_##state},

static const struct ph_key global_keys[] = {PH_GLOBAL_KEYS(ROW)};
static const struct ph_key receive_keys[] = {PH_RECEIVE_KEYS(ROW)};
static const struct ph_key send_keys[] = {PH_SEND_KEYS(ROW)};
static const struct ph_key transport_keys[] = {PH_TRANSPORT_KEYS(ROW)};
static const struct ph_key site_keys[] = {PH_SITE_KEYS(ROW)};
static const struct ph_key queue_keys[] = {PH_QUEUE_KEYS(ROW)};
static const struct ph_key resolver_keys[] = {PH_RESOLVER_KEYS(ROW)};
static const struct ph_key admin_keys[] = {PH_ADMIN_KEYS(ROW)};
static const struct ph_key log_keys[] = {PH_LOG_KEYS(ROW)};

static const struct {
    const char *name;
    const struct ph_key *keys;
    size_t count;
} blocks[PH_BLOCK_KINDS] = {
    [PH_BLOCK_GLOBAL] = {"", global_keys, PH_ARRAY_LEN(global_keys)},
    [PH_BLOCK_RECEIVE] = {"ReceiveConnector", receive_keys, PH_ARRAY_LEN(receive_keys)},
    [PH_BLOCK_SEND] = {"SendConnector", send_keys, PH_ARRAY_LEN(send_keys)},
    [PH_BLOCK_TRANSPORT] = {"TransportConfig", transport_keys, PH_ARRAY_LEN(transport_keys)},
    [PH_BLOCK_SITE] = {"Site", site_keys, PH_ARRAY_LEN(site_keys)},
    [PH_BLOCK_QUEUE] = {"Queue", queue_keys, PH_ARRAY_LEN(queue_keys)},
    [PH_BLOCK_RESOLVER] = {"Resolver", resolver_keys, PH_ARRAY_LEN(resolver_keys)},
    [PH_BLOCK_ADMIN] = {"Admin", admin_keys, PH_ARRAY_LEN(admin_keys)},
    [PH_BLOCK_LOG] = {"Log", log_keys, PH_ARRAY_LEN(log_keys)},
};
_Static_assert(PH_ARRAY_LEN(send_keys) <= PH_KEYS_OF_BLOCK_MAX, "room for a block's values");

const struct ph_key *ph_keys_of(enum ph_block_kind kind, size_t *out_count)
{
    *out_count = blocks[kind].count;
    return blocks[kind].keys;
}

const char *ph_block_name(enum ph_block_kind kind)
{
    return blocks[kind].name;
}
