// What a peer can do, as its EHLO reply says (RFC 5321 §4.1.1.1).
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "smtp/reply.h"

struct ph_ehlo {
    bool starttls;              // RFC 3207
    bool pipelining;            // RFC 2920
    bool chunking;              // RFC 3030
    bool eightbitmime;          // RFC 6152
    bool smtputf8;              // RFC 6531
    bool dsn;                   // RFC 3461
    bool enhanced_status_codes; // RFC 2034
    bool requiretls;            // RFC 8689
    bool size;                  // RFC 1870
    uint64_t size_max;          // bytes; 0: no limit was told
    bool auth_plain;            // RFC 4954
    bool auth_login;
};

// Of a complete 250 reply. The first line is the greeting, never a keyword; keywords ignore case;
// what is unknown, or stands twice, is passed over.
struct ph_ehlo ph_ehlo_parse(const struct ph_reply *reply);
