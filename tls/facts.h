// What was measured on one session: plain facts, without judgement.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/reason.h"
#include "base/str.h"

#define PH_CERT_NAMES_MAX 256 // dNSName SANs kept of one certificate; ours
#define PH_CERT_TEXT_MAX 256  // subject and issuer as text, bytes with NUL; ours
#define PH_SHA256_BYTES 32

// One certificate chain as a peer presented it, parsed once and shared by the sessions of a worker.
// Reference-counted (not atomically: one worker), immutable. Made by tls/verify.
struct ph_chain {
    uint32_t references;
    uint8_t hash[PH_SHA256_BYTES]; // over all presented certificates
    uint8_t leaf_sha256[PH_SHA256_BYTES];
    uint8_t spki_sha256[PH_SHA256_BYTES]; // of the leaf's key
    char subject[PH_CERT_TEXT_MAX];
    char issuer[PH_CERT_TEXT_MAX];
    char common_name[PH_CERT_TEXT_MAX]; // empty when absent or not a host name
    int64_t not_before_s;               // of the leaf, since 1970
    int64_t not_after_s;
    const char **dns_names; // dNSName SANs that are well-formed host names, lower case
    size_t dns_name_count;
    bool has_dns_names;                      // also when none of them was well-formed
    void (*destroy)(struct ph_chain *chain); // the maker's; runs after the last release
    void *certificates; // tls/verify's own (DER buffers of the presented chain)
};

// Whose revocation lists a decision asked for.
#define PH_CRL_ISSUERS_MAX 8 // distinct ones; ours: what asks for more isn't cached

struct ph_crl_issuers {
    uint32_t hashes[PH_CRL_ISSUERS_MAX]; // X509_NAME_hash
    uint32_t count;                      // larger than the array: some are missing
};

// The same, and what those lists were then (tls/crls). Zeroes: none was asked for.
struct ph_crls_asked {
    struct ph_crl_issuers issuers;
    uint64_t mark;
};

enum ph_revocation {
    PH_REVOCATION_NOT_CHECKED,   // no source was configured
    PH_REVOCATION_NOT_CHECKABLE, // the certificates name no source
    PH_REVOCATION_UNKNOWN,       // a source is configured and gives no usable answer
    PH_REVOCATION_GOOD,
    PH_REVOCATION_REVOKED,
};

// The verdict on exactly this chain against one trust store, at one time.
struct ph_chain_verdict {
    uint8_t chain_hash[PH_SHA256_BYTES]; // of the ph_chain judged
    uint64_t trust_id;                   // of the ph_trust judged against
    enum ph_reason_kind kind;            // PH_REASON_NONE: the chain is good (revocation apart)
    char detail[PH_REASON_SENTENCE_MAX]; // what was wrong with which certificate
    char path[PH_REASON_SENTENCE_MAX];   // the good path's subjects, leaf first, for people
    enum ph_revocation revocation;       // the worst of all certificates below the anchor
    enum ph_revocation revocation_leaf;  // of the leaf alone
    char revocation_detail[128];
    struct ph_crl_issuers crl_issuers; // it ends with their lists
    int64_t valid_until_s;             // the earliest date in it: not to be used at or after
    bool cached;                       // this verdict came from the cache
};

enum ph_handshake_kind {
    PH_HANDSHAKE_NONE, // plaintext
    PH_HANDSHAKE_FULL,
    PH_HANDSHAKE_RESUMED,
};

struct ph_tls_facts {
    uint64_t session_id; // of the connection: a clearance is bound to it; never 0
    bool encrypted;      // the handshake completed and everything since went through it
    bool starttls_offered;
    enum ph_handshake_kind handshake;
    uint16_t version;                  // 0x0303, 0x0304
    const char *cipher;                // static name; "" in plaintext
    const char *group;                 // static name; "" where unknown
    uint16_t group_id;                 // IANA's number; 0 without one
    bool hello_retried;                // a HelloRetryRequest asked for that group first
    struct ph_chain *chain;            // referenced; NULL where no certificate was shown
    bool client_certificate_requested; // the server asked for ours (inherited by resumption)
    bool client_certificate_sent;
    uint64_t handshake_us; // CPU-independent wall time, for logs; 0 in the simulator
};

struct ph_tls_facts ph_tls_facts_plaintext(uint64_t session_id, bool starttls_offered);
const char *ph_tls_version_name(uint16_t version);             // "TLS1.3"
const char *ph_revocation_name(enum ph_revocation revocation); // "not-checked", …
void ph_chain_retain(struct ph_chain *chain);
void ph_chain_release(struct ph_chain *chain); // NULL accepted; the last one frees
