// TlsGroups: which key exchanges are offered, and for which a key share is sent at once.
#pragma once

#include <stdint.h>

#include "base/str.h"
#include "tls/boringssl.h"

// Sets up a client session for `groups`, which ph_tls_groups_valid has found good; "" for the
// default. `key_share` and `small` as in ph_tls_client_options.
void ph_groups_apply(SSL *ssl, struct ph_str groups, uint16_t key_share, bool small);
const char *ph_groups_name(uint16_t group_id); // static; "" for an unknown one
