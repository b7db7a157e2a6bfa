// From a line of the delivery log to the gate.
#include "cli/evidence.h"

#include <stdlib.h>
#include <string.h>

#include "engine/router.h"
#include "tls/gate.h"

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}

// A refusal tells of the peer's TLS; a connection that failed before it doesn't.
static bool tells_of_tls(const json_t *record)
{
    const char *event = text_of(record, "event");
    enum ph_reason_kind kind;

    if (text_of(record, "host")[0] == '\0' || json_object_get(record, "tls") == NULL) {
        return false;
    }
    if (strcmp(event, "delivered") == 0) {
        return true;
    }
    return strcmp(event, "attempt") == 0 &&
           ph_reason_kind_from_token(ph_str_from(text_of(record, "reason")), &kind) &&
           ph_reason_is_tls(kind);
}

static uint16_t version_of(const char *name)
{
    return strcmp(name, ph_tls_version_name(0x0304)) == 0 ? 0x0304 : 0x0303;
}

static void read_hash(const char *hex, uint8_t out[PH_SHA256_BYTES])
{
    memset(out, 0, PH_SHA256_BYTES);
    for (size_t i = 0; i < PH_SHA256_BYTES && hex[2 * i] != '\0' && hex[2 * i + 1] != '\0'; i++) {
        char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

        out[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
}

static void read_certificate(struct ph_evidence *out, const json_t *cert)
{
    const json_t *names = json_object_get(cert, "names");
    struct ph_chain *chain = ph_alloc(sizeof(*chain));
    const json_t *name;
    size_t i;

    chain->references = 1;
    chain->dns_names = ph_alloc(PH_EVIDENCE_NAMES_MAX * sizeof(*chain->dns_names));
    json_array_foreach(names, i, name)
    {
        if (json_string_value(name) != NULL && chain->dns_name_count < PH_EVIDENCE_NAMES_MAX) {
            chain->dns_names[chain->dns_name_count++] = ph_strdup(json_string_value(name));
        }
    }
    chain->has_dns_names = chain->dns_name_count > 0;
    out->names_cut =
        (size_t)json_integer_value(json_object_get(cert, "name_count")) > chain->dns_name_count;
    ph_str_copy(chain->subject, sizeof(chain->subject), ph_str_from(text_of(cert, "subject")));
    ph_str_copy(chain->issuer, sizeof(chain->issuer), ph_str_from(text_of(cert, "issuer")));
    ph_str_copy(chain->common_name, sizeof(chain->common_name),
                ph_str_from(text_of(cert, "common_name")));
    read_hash(text_of(cert, "sha256"), chain->leaf_sha256);
    read_hash(text_of(cert, "spki_sha256"), chain->spki_sha256);
    memcpy(chain->hash, chain->leaf_sha256, sizeof(chain->hash));
    out->chain = chain;
    out->facts.chain = chain;
}

static void read_verdict(struct ph_evidence *out, const json_t *record)
{
    static const enum ph_revocation kinds[] = {PH_REVOCATION_NOT_CHECKED,
                                               PH_REVOCATION_NOT_CHECKABLE, PH_REVOCATION_UNKNOWN,
                                               PH_REVOCATION_GOOD, PH_REVOCATION_REVOKED};
    const char *chain = text_of(record, "cert_chain");
    const char *revocation = text_of(record, "revocation");

    out->chain_judged = strcmp(chain, "good") == 0 ||
                        ph_reason_kind_from_token(ph_str_from(chain), &out->verdict.kind);
    for (size_t i = 0; i < PH_ARRAY_LEN(kinds); i++) {
        if (strcmp(revocation, ph_revocation_name(kinds[i])) == 0) {
            out->verdict.revocation = kinds[i];
            out->verdict.revocation_leaf = kinds[i];
        }
    }
    if (out->chain != NULL) {
        memcpy(out->verdict.chain_hash, out->chain->hash, PH_SHA256_BYTES);
    }
    ph_str_copy(out->verdict.detail, sizeof(out->verdict.detail),
                PH_STR("as it was seen in the session on record"));
    out->verdict.valid_until_s = INT64_MAX;
}

bool ph_evidence_read(const json_t *record, struct ph_evidence *out)
{
    const json_t *tls = json_object_get(record, "tls");
    struct ph_str address = ph_str_from(text_of(record, "recipient"));
    struct ph_address recipient;

    *out = (struct ph_evidence){0};
    if (!tells_of_tls(record) || !ph_address_parse(address, &recipient) ||
        !ph_domain_normalize(recipient.domain, out->domain)) {
        return false;
    }
    ph_str_copy(out->host, sizeof(out->host), ph_str_from(text_of(record, "host")));
    ph_str_copy(out->address, sizeof(out->address), ph_str_from(text_of(record, "ip")));
    out->size = (uint64_t)json_integer_value(json_object_get(record, "size"));
    out->delivered = strcmp(text_of(record, "event"), "delivered") == 0;
    out->facts =
        ph_tls_facts_plaintext(1, json_is_true(json_object_get(record, "starttls_offered")));
    out->fell_back =
        text_of(record, "fallback")[0] != '\0' ||
        strcmp(text_of(record, "reason"), ph_reason_token(PH_REASON_TLS_HANDSHAKE_FAILED)) == 0;
    if (json_is_object(tls)) {
        out->facts.encrypted = true;
        out->facts.starttls_offered = true;
        out->facts.handshake = PH_HANDSHAKE_FULL;
        out->facts.version = version_of(text_of(tls, "version"));
        out->facts.client_certificate_requested =
            json_is_true(json_object_get(tls, "client_certificate_requested"));
        out->facts.client_certificate_sent =
            json_is_true(json_object_get(tls, "client_certificate_sent"));
    }
    if (json_is_object(json_object_get(record, "cert"))) {
        read_certificate(out, json_object_get(record, "cert"));
    }
    read_verdict(out, record);
    return true;
}

void ph_evidence_deinit(struct ph_evidence *evidence)
{
    for (size_t i = 0; evidence->chain != NULL && i < evidence->chain->dns_name_count; i++) {
        free((void *)(uintptr_t)evidence->chain->dns_names[i]);
    }
    if (evidence->chain != NULL) {
        free((void *)(uintptr_t)evidence->chain->dns_names);
        free(evidence->chain);
    }
}

enum ph_evidence_verdict ph_evidence_judge(const struct ph_evidence *evidence,
                                           const struct ph_config *config,
                                           struct ph_reason *out_reason)
{
    const struct ph_send_connector *connector = NULL;
    struct ph_str domain = ph_str_from(evidence->domain);
    struct ph_chain_verdict verdict = evidence->verdict;
    struct ph_tls_policy policy;
    struct ph_gate_subject subject;

    if (ph_router_route(config, domain, evidence->size, &connector, out_reason) != PH_ROUTE_FOUND) {
        *out_reason = ph_reason_make(PH_REASON_NO_CONNECTOR,
                                     "no enabled connector carries mail for %s", evidence->domain);
        return PH_EVIDENCE_DEFERS;
    }
    policy = ph_config_policy(config, connector, domain, false);
    // What the destination demands is the same before and after: the log tells what came of it.
    policy.dane_mode = PH_DANE_NONE;
    verdict.trust_id = policy.trust_id;
    subject = (struct ph_gate_subject){
        .facts = &evidence->facts,
        .verdict = evidence->chain != NULL ? &verdict : NULL,
        .connector = connector->name,
        .recipient_domain = domain,
        .host = ph_str_from(evidence->host),
        .address = ph_str_from(evidence->address),
        .wall_ms = evidence->wall_ms,
    };
    if (ph_tls_policy_needs_chain(&policy) && evidence->chain != NULL && !evidence->chain_judged) {
        *out_reason =
            ph_reason_make(PH_REASON_CERT_UNTRUSTED_ROOT,
                           "the log holds no verdict on the certificate of %s", evidence->host);
        return PH_EVIDENCE_UNDECIDED;
    }
    if (ph_gate_judge_session(&policy, &subject, out_reason) == PH_GATE_CLEARED) {
        return PH_EVIDENCE_PASSES;
    }
    if (evidence->fell_back && out_reason->kind == PH_REASON_STARTTLS_REFUSED) {
        *out_reason =
            ph_reason_make(PH_REASON_TLS_HANDSHAKE_FAILED,
                           "connector %.*s demands TLS; the TLS handshake with %s (%s) "
                           "failed",
                           PH_STR_ARG(connector->name), evidence->host, evidence->address);
    }
    return out_reason->kind == PH_REASON_CERT_NAME_MISMATCH && evidence->names_cut
               ? PH_EVIDENCE_UNDECIDED
               : PH_EVIDENCE_DEFERS;
}
