// `posthaste verify`: the verifier alone, on files.
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "cli/cli.h"
#include "dns/tlsa.h"
#include "tls/chain.h"
#include "tls/dane.h"
#include "tls/identity.h"
#include "tls/path.h"
#include "tls/verify.h"

#define PH_VERIFY_FILE_BYTES_MAX ((size_t)64 << 20) // ours: CRLs of large authorities

enum revocation_mode {
    REVOCATION_UNSET,
    REVOCATION_OFF,          // not asked
    REVOCATION_SOFT,         // revoked is refused, unknown passes
    REVOCATION_REQUIRE,      // of every certificate below the root
    REVOCATION_REQUIRE_LEAF, // of the leaf
};

struct request {
    const char *leaf_file;
    const char *name;
    bool name_is_address;
    enum revocation_mode revocation;
    uint64_t time_s;
    uint64_t intermediates_max;
    bool json;
    // What the files hold.
    struct ph_buf trust;
    struct ph_buf untrusted;
    struct ph_buf leaf;
    struct ph_buf crls;
    struct ph_buf staple;
    struct ph_buf tlsa; // as a DNS answer: {u16 length, rdata}…
};

enum verdict {
    VERDICT_ACCEPT = PH_EXIT_YES,
    VERDICT_REJECT = PH_EXIT_NO,
    VERDICT_UNDECIDABLE = PH_EXIT_UNDECIDED,
};

struct answer {
    enum verdict verdict;
    enum ph_reason_kind reason;
    char detail[PH_REASON_SENTENCE_MAX];
    char matched_name[PH_CERT_TEXT_MAX];
    struct ph_chain_verdict chain;
    const char *dane; // NULL: not asked
    uint64_t cpu_us;
};

static const char usage[] =
    "usage: posthaste verify --trust FILE --leaf FILE [--untrusted FILE] [--name HOST]\n"
    "       [--name-kind dns|ip] [--time EPOCH] [--crl FILE]… [--ocsp FILE.der]\n"
    "       [--revocation off|soft|require|require-leaf] [--tlsa \"U S M HEX\"]…\n"
    "       [--max-depth N] [--json]\n"
    "\n"
    "Verifies one certificate offline, as delivery would. FILEs are PEM; the leaf is the first\n"
    "certificate of its file, further ones there are as if sent along. TLSA records that are "
    "usable\n"
    "for SMTP (RFC 7672) decide in the place of the trust store. Exit: 0 accept, 1 reject, 2 "
    "can't\n"
    "be decided (delivery would defer).\n";

// --- the command line ---

static bool read_file(const char *path, struct ph_buf *out, int *exit_code)
{
    FILE *file = fopen(path, "re");
    bool good = file != NULL;
    size_t count = 1;

    while (good && count > 0) {
        char *room = out->len < PH_VERIFY_FILE_BYTES_MAX ? ph_buf_reserve(out, 65536) : NULL;

        good = room != NULL;
        count = good ? fread(room, 1, 65536, file) : 0;
        ph_buf_grew(out, count);
        good = good && ferror(file) == 0;
    }
    if (!good) {
        fprintf(stderr, "posthaste: %s can't be read: %s\n", path,
                out->len >= PH_VERIFY_FILE_BYTES_MAX ? "it is too large" : strerror(errno));
        *exit_code = PH_EXIT_UNREADABLE;
    }
    if (file != NULL) {
        fclose(file);
    }
    return good;
}

static bool usage_error(const char *option, const char *value, const char *instead, int *exit_code)
{
    fprintf(stderr, "posthaste: %s \"%s\": %s\n", option, value, instead);
    *exit_code = PH_EXIT_USAGE;
    return false;
}

static bool read_mode(const char *text, enum revocation_mode *out)
{
    static const struct {
        const char *text;
        enum revocation_mode mode;
    } modes[] = {
        {"off", REVOCATION_OFF},
        {"soft", REVOCATION_SOFT},
        {"require", REVOCATION_REQUIRE},
        {"require-leaf", REVOCATION_REQUIRE_LEAF},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(modes); i++) {
        if (strcmp(text, modes[i].text) == 0) {
            *out = modes[i].mode;
            return true;
        }
    }
    return false;
}

// "3 1 1 ab12…": usage, selector, matching type, data in hexadecimal, blanks allowed in it.
static bool read_tlsa(struct ph_buf *out, const char *text)
{
    uint8_t rdata[2 + 3 + PH_TLSA_DATA_BYTES_MAX];
    size_t at = 2;
    char *end = NULL;

    for (int field = 0; field < 3; field++) {
        unsigned long number = strtoul(text, &end, 10);

        if (end == text || number > 255 || *end != ' ') {
            return false;
        }
        rdata[at++] = (uint8_t)number;
        text = end;
    }
    while (*text != '\0') {
        unsigned byte;

        if (*text == ' ') {
            text++;
        } else if (at == sizeof(rdata) || !isxdigit((unsigned char)text[0]) ||
                   !isxdigit((unsigned char)text[1]) || sscanf(text, "%2x", &byte) != 1) {
            return false;
        } else {
            rdata[at++] = (uint8_t)byte;
            text += 2;
        }
    }
    rdata[0] = (uint8_t)((at - 2) >> 8);
    rdata[1] = (uint8_t)(at - 2);
    return at > 5 && ph_buf_append_bytes(out, rdata, at);
}

static bool read_option(struct request *r, const char *option, const char *value, int *exit_code)
{
    bool good = true;

    if (strcmp(option, "--trust") == 0) {
        good = read_file(value, &r->trust, exit_code);
    } else if (strcmp(option, "--untrusted") == 0) {
        good = read_file(value, &r->untrusted, exit_code);
    } else if (strcmp(option, "--leaf") == 0) {
        r->leaf_file = value;
        good = read_file(value, &r->leaf, exit_code);
    } else if (strcmp(option, "--crl") == 0) {
        good = read_file(value, &r->crls, exit_code);
    } else if (strcmp(option, "--ocsp") == 0) {
        good = read_file(value, &r->staple, exit_code);
    } else if (strcmp(option, "--name") == 0) {
        r->name = value;
    } else if (strcmp(option, "--name-kind") == 0) {
        r->name_is_address = strcmp(value, "ip") == 0;
        if (!r->name_is_address && strcmp(value, "dns") != 0) {
            good = usage_error(option, value, "write dns or ip", exit_code);
        }
    } else if (strcmp(option, "--time") == 0) {
        if (!ph_str_to_u64(ph_str_from(value), &r->time_s) || r->time_s > INT64_MAX / 1000) {
            good = usage_error(option, value, "write seconds since 1970", exit_code);
        }
    } else if (strcmp(option, "--max-depth") == 0) {
        if (!ph_str_to_u64(ph_str_from(value), &r->intermediates_max)) {
            good = usage_error(option, value, "write a number of intermediates", exit_code);
        }
    } else if (strcmp(option, "--tlsa") == 0) {
        if (!read_tlsa(&r->tlsa, value)) {
            good = usage_error(option, value, "write for example \"3 1 1 HEX\"", exit_code);
        }
    } else if (strcmp(option, "--revocation") == 0) {
        if (!read_mode(value, &r->revocation)) {
            good =
                usage_error(option, value, "write off, soft, require or require-leaf", exit_code);
        }
    } else {
        fprintf(stderr, "posthaste: no option \"%s\"\n%s", option, usage);
        *exit_code = PH_EXIT_USAGE;
        good = false;
    }
    return good;
}

static bool read_options(struct request *r, int argc, char **argv, int *exit_code)
{
    bool good = true;

    for (int i = 1; good && i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            r->json = true;
        } else if (strcmp(argv[i], "--help") == 0) {
            printf("%s", usage);
            *exit_code = PH_EXIT_YES;
            good = false;
        } else if (strncmp(argv[i], "--", 2) != 0) {
            fprintf(stderr, "posthaste: \"%s\" is no option\n%s", argv[i], usage);
            *exit_code = PH_EXIT_USAGE;
            good = false;
        } else if (i + 1 == argc) {
            fprintf(stderr, "posthaste: %s needs a value\n%s", argv[i], usage);
            *exit_code = PH_EXIT_USAGE;
            good = false;
        } else {
            good = read_option(r, argv[i], argv[i + 1], exit_code);
            i++;
        }
    }
    if (good && ((r->trust.len == 0 && r->tlsa.len == 0) || r->leaf_file == NULL)) {
        fprintf(stderr, "posthaste: --trust and --leaf are needed\n%s", usage);
        *exit_code = PH_EXIT_USAGE;
        good = false;
    }
    if (r->revocation == REVOCATION_UNSET) {
        r->revocation =
            r->crls.len > 0 || r->staple.len > 0 ? REVOCATION_REQUIRE_LEAF : REVOCATION_OFF;
    }
    return good;
}

// --- the judgement ---

static uint64_t fixed_time(void *owner)
{
    return ((const struct request *)owner)->time_s;
}

static uint64_t cpu_us(void)
{
    struct timespec spent;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    return (uint64_t)spent.tv_sec * 1000000 + (uint64_t)spent.tv_nsec / 1000;
}

static void refuse(struct answer *answer, enum verdict verdict, enum ph_reason_kind reason,
                   const char *detail)
{
    answer->verdict = verdict;
    answer->reason = reason;
    ph_str_copy(answer->detail, sizeof(answer->detail), ph_str_from(detail));
}

// What was asked of: the leaf, or all below the root.
static enum ph_revocation asked_revocation(const struct request *r, const struct answer *answer)
{
    return r->revocation == REVOCATION_REQUIRE_LEAF ? answer->chain.revocation_leaf
                                                    : answer->chain.revocation;
}

static void judge_revocation(const struct request *r, struct answer *answer)
{
    enum ph_revocation status = asked_revocation(r, answer);
    bool required = r->revocation == REVOCATION_REQUIRE || r->revocation == REVOCATION_REQUIRE_LEAF;

    if (required && status != PH_REVOCATION_GOOD) {
        refuse(answer, VERDICT_UNDECIDABLE, PH_REASON_REVOCATION_UNKNOWN,
               answer->chain.revocation_detail);
    }
}

static void judge_name(const struct request *r, const struct ph_chain *chain, struct answer *answer)
{
    struct ph_str name = ph_str_from(r->name);
    struct ph_identity_result match = {.matched = PH_STR_NONE};

    if (r->name_is_address) {
        match.matches = ph_chain_has_address(chain, name);
        match.matched = match.matches ? name : PH_STR_NONE;
    } else {
        match = ph_identity_match(chain, &name, 1, PH_TLS_COMMON_NAME_NEVER);
    }
    ph_str_copy(answer->matched_name, sizeof(answer->matched_name), match.matched);
    if (!match.matches) {
        struct ph_buf detail = {0};

        ph_buf_printf(&detail, "wanted %.253s; the certificate is for", r->name);
        for (size_t i = 0; i < chain->dns_name_count && detail.len < PH_REASON_SENTENCE_MAX; i++) {
            ph_buf_printf(&detail, " %s", chain->dns_names[i]);
        }
        if (chain->dns_name_count == 0) {
            ph_buf_printf(&detail, " no DNS name%s",
                          match.common_name_would ? " (its common name matches, and doesn't count)"
                                                  : "");
        }
        refuse(answer, VERDICT_REJECT, PH_REASON_CERT_NAME_MISMATCH, ph_buf_cstr(&detail));
        ph_buf_deinit(&detail);
    }
}

// RFC 7672: usage 3 is about this very certificate or key, whatever its names and dates; usage 2
// about an authority, below which names and dates count.
static void judge_dane(const struct request *r, const struct ph_chain *chain,
                       const struct ph_tlsa *tlsa, struct answer *answer)
{
    struct ph_dane_verdict dane;

    ph_dane_verify(chain, tlsa, r->time_s * 1000, &dane);
    switch (dane.match) {
    case PH_DANE_NO_MATCH:
        answer->dane = "mismatch";
        refuse(answer, VERDICT_REJECT, PH_REASON_DANE_MISMATCH, dane.detail);
        break;
    case PH_DANE_MATCH_STALE:
        answer->dane = "expired";
        refuse(answer, VERDICT_REJECT, PH_REASON_DANE_EXPIRED, dane.detail);
        break;
    case PH_DANE_MATCH_TA:
        answer->dane = "match-authority";
        if (r->name != NULL) {
            judge_name(r, chain, answer);
        }
        if (answer->verdict == VERDICT_REJECT) {
            answer->reason = PH_REASON_DANE_HOST_MISMATCH;
        }
        break;
    case PH_DANE_MATCH_EE:
        answer->dane = "match-certificate";
        break;
    }
}

// True: usable records have decided.
static bool decided_by_dane(const struct request *r, const struct ph_chain *chain,
                            struct answer *answer)
{
    struct ph_resolve_op records = {
        .rrtype = PH_RRTYPE_TLSA, .status = PH_RESOLVE_OK, .secure = true, .rdata = r->tlsa};
    struct ph_tlsa tlsa = {0};
    struct ph_reason unused;
    bool usable;

    if (r->tlsa.len == 0) {
        return false;
    }
    ph_tlsa_read(&records, r->name != NULL ? r->name : "", &tlsa, &unused);
    usable = tlsa.status == PH_TLSA_USABLE;
    if (usable) {
        judge_dane(r, chain, &tlsa, answer);
    } else {
        answer->dane = "unusable"; // TLS is a must then, authentication impossible
    }
    ph_tlsa_deinit(&tlsa);
    return usable;
}

static void judge(const struct request *r, struct ph_tls_context *context, struct ph_trust *trust,
                  const struct ph_chain *chain, struct answer *answer)
{
    answer->chain = *ph_verify_chain(context, chain, trust, r->time_s * 1000);
    answer->verdict = VERDICT_ACCEPT;
    answer->reason = PH_REASON_NONE;
    if (decided_by_dane(r, chain, answer) || (r->trust.len == 0 && r->tlsa.len > 0)) {
        return;
    }
    if (answer->chain.kind != PH_REASON_NONE) {
        refuse(answer, VERDICT_REJECT, answer->chain.kind, answer->chain.detail);
    }
    if (answer->verdict == VERDICT_ACCEPT && r->name != NULL) {
        judge_name(r, chain, answer);
    }
    if (answer->verdict == VERDICT_ACCEPT) {
        judge_revocation(r, answer);
    }
}

// --- the answer ---

static const char *verdict_name(enum verdict verdict)
{
    return verdict == VERDICT_ACCEPT   ? "accept"
           : verdict == VERDICT_REJECT ? "reject"
                                       : "undecidable";
}

static const char *revocation_text(const struct request *r, const struct answer *answer)
{
    enum ph_revocation status = PH_REVOCATION_NOT_CHECKED;

    if (answer->chain.kind == PH_REASON_CERT_REVOKED) {
        status = PH_REVOCATION_REVOKED;
    } else if (answer->chain.kind == PH_REASON_NONE && r->revocation != REVOCATION_OFF) {
        status = asked_revocation(r, answer);
    }
    return ph_revocation_name(status);
}

static void print_json(const struct request *r, const struct answer *answer)
{
    struct ph_buf text = {0};
    struct ph_json out;
    struct ph_str rest = ph_str_from(answer->chain.path);

    ph_json_init(&out, &text);
    ph_json_open_object(&out, NULL);
    ph_json_text(&out, "result", verdict_name(answer->verdict));
    ph_json_text(&out, "reason", ph_reason_token(answer->reason));
    ph_json_text(&out, "detail", answer->detail);
    ph_json_open_array(&out, "chain");
    while (rest.len > 0) { // RFC 2253 text has no bare '<'
        ptrdiff_t end = ph_str_find(rest, PH_STR(" <- "));
        size_t len = end < 0 ? rest.len : (size_t)end;

        ph_json_string(&out, NULL, ph_str_first(rest, len), 0);
        rest = ph_str_after(rest, end < 0 ? len : len + 4);
    }
    ph_json_close_array(&out);
    if (answer->matched_name[0] != '\0') {
        ph_json_text(&out, "matched_name", answer->matched_name);
    } else {
        ph_json_null(&out, "matched_name");
    }
    ph_json_text(&out, "revocation", revocation_text(r, answer));
    if (answer->dane != NULL) {
        ph_json_text(&out, "dane", answer->dane);
    } else {
        ph_json_null(&out, "dane");
    }
    ph_json_u64(&out, "cpu_us", answer->cpu_us);
    ph_json_close_object(&out);
    printf("%.*s\n", PH_STR_ARG(ph_buf_str(&text)));
    ph_buf_deinit(&text);
}

static void print_text(const struct request *r, const struct answer *answer)
{
    printf("%s", verdict_name(answer->verdict));
    if (answer->reason != PH_REASON_NONE) {
        printf(": %s: %s", ph_reason_token(answer->reason), answer->detail);
    }
    printf("\n");
    if (answer->chain.path[0] != '\0') {
        printf("  chain       %s\n", answer->chain.path);
    }
    if (answer->matched_name[0] != '\0') {
        printf("  name        %s\n", answer->matched_name);
    }
    if (answer->dane != NULL) {
        printf("  dane        %s\n", answer->dane);
    }
    printf("  revocation  %s\n  cpu         %llu µs\n", revocation_text(r, answer),
           (unsigned long long)answer->cpu_us);
}

static int verify(struct request *r)
{
    struct ph_str staple = r->revocation == REVOCATION_OFF ? PH_STR_NONE : ph_buf_str(&r->staple);
    struct ph_trust_options options = {
        .anchors_pem = ph_buf_str(&r->trust),
        .intermediates_pem = PH_STR_NONE,
        .crls_pem = r->revocation == REVOCATION_OFF ? PH_STR_NONE : ph_buf_str(&r->crls),
        .revocation_source = r->revocation != REVOCATION_OFF,
    };
    struct ph_tls_context *context;
    struct ph_chain_pool *pool = ph_chain_pool_create();
    struct ph_buf error = {0};
    struct ph_trust *trust = ph_trust_create(&options, &error);
    struct ph_chain *chain = NULL;
    struct answer answer = {.verdict = VERDICT_REJECT};
    int result = PH_EXIT_UNREADABLE;
    uint64_t began_us = cpu_us();

    if (r->intermediates_max > PH_PATH_INTERMEDIATES_LIMIT) {
        r->intermediates_max = PH_PATH_INTERMEDIATES_LIMIT;
    }
    context = ph_tls_context_create(&(struct ph_tls_context_options){
        .now_s = fixed_time, .owner = r, .intermediates_max = r->intermediates_max + 1});
    if (trust != NULL) {
        chain = ph_chain_create_from_pem(pool, ph_buf_str(&r->leaf), ph_buf_str(&r->untrusted),
                                         staple, &error);
    }
    if (chain == NULL) {
        fprintf(stderr, "posthaste: %.*s\n", PH_STR_ARG(ph_buf_str(&error)));
    } else {
        judge(r, context, trust, chain, &answer);
        answer.cpu_us = cpu_us() - began_us;
        if (r->json) {
            print_json(r, &answer);
        } else {
            print_text(r, &answer);
        }
        result = (int)answer.verdict;
    }
    ph_chain_release(chain);
    ph_trust_release(trust);
    ph_tls_context_destroy(context);
    ph_chain_pool_release(pool);
    ph_buf_deinit(&error);
    return result;
}

int ph_cli_verify(int argc, char **argv)
{
    struct request r = {.intermediates_max = PH_PATH_INTERMEDIATES_MAX};
    struct timespec now;
    int result = PH_EXIT_INTERNAL;

    clock_gettime(CLOCK_REALTIME, &now);
    r.time_s = (uint64_t)now.tv_sec;
    if (read_options(&r, argc, argv, &result)) {
        result = verify(&r);
    }
    ph_buf_deinit(&r.trust);
    ph_buf_deinit(&r.untrusted);
    ph_buf_deinit(&r.leaf);
    ph_buf_deinit(&r.crls);
    ph_buf_deinit(&r.staple);
    ph_buf_deinit(&r.tlsa);
    return result;
}
