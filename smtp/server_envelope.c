// MAIL and RCPT with their parameters.
#include <stdlib.h>
#include <string.h>

#include "smtp/server_parts.h"

#define PH_SERVER_RECIPIENTS_FIRST 8

// A copy that lives as long as the envelope.
static struct ph_str keep(struct ph_server *server, struct ph_str text)
{
    struct ph_server_block *block = SLIST_FIRST(&server->blocks);
    char *at;

    PH_CHECK(text.len <= PH_SERVER_BLOCK_BYTES);
    if (block == NULL || block->used + text.len > PH_SERVER_BLOCK_BYTES) {
        block = malloc(sizeof(*block));
        PH_CHECK(block != NULL);
        block->used = 0;
        SLIST_INSERT_HEAD(&server->blocks, block, link);
    }
    at = block->text + block->used;
    memcpy(at, text.data, text.len);
    block->used += text.len;
    return (struct ph_str){.data = at, .len = text.len};
}

void ph_server_reset_envelope(struct ph_server *server)
{
    struct ph_server_block *block;

    // One block is kept for the next message.
    while ((block = SLIST_FIRST(&server->blocks)) != NULL && SLIST_NEXT(block, link) != NULL) {
        SLIST_REMOVE_HEAD(&server->blocks, link);
        free(block);
    }
    if (block != NULL) {
        block->used = 0;
    }
    server->in_transaction = false;
    server->bdat_begun = false;
    server->recipient_count = 0;
    server->envelope = (struct ph_envelope){0};
    server->fault = (struct ph_server_fault){0};
    server->chunks_taken = false;
    ph_buf_clear(&server->content);
}

// The value of a capital hexadecimal digit; 16: it is none.
static unsigned hexadecimal(char digit)
{
    unsigned value = 16;

    if (digit >= '0' && digit <= '9') {
        value = (unsigned)(digit - '0');
    } else if (digit >= 'A' && digit <= 'F') {
        value = (unsigned)(digit - 'A') + 10;
    }
    return value;
}

// xtext (RFC 3461 §4): printable ASCII without '=', '+' only before two hexadecimal digits. Control
// characters are refused in either form: who decodes it may have a line made of them.
static bool is_xtext(struct ph_str text)
{
    bool good = text.len > 0;

    for (size_t i = 0; i < text.len && good; i++) {
        good = text.data[i] > 0x20 && text.data[i] < 0x7f && text.data[i] != '=';
        if (good && text.data[i] == '+') {
            unsigned high = i + 2 < text.len ? hexadecimal(text.data[i + 1]) : 16;
            unsigned low = high < 16 ? hexadecimal(text.data[i + 2]) : 16;

            good = low < 16 && high >= 2 && (high != 7 || low != 15);
            i += 2;
        }
    }
    return good;
}

// "KEY=VALUE" or "KEY", the next of `rest`.
static bool next_parameter(struct ph_str *rest, struct ph_str *out_key, struct ph_str *out_value)
{
    struct ph_str word;

    *rest = ph_str_trim(*rest);
    if (!ph_str_cut(rest, ' ', &word)) {
        return false;
    }
    *out_value = word;
    if (!ph_str_cut(out_value, '=', out_key)) {
        *out_key = word;
    }
    return true;
}

// A MAIL parameter: 0, or the code of the refusal.
static unsigned take_mail_parameter(struct ph_server *server, struct ph_str key,
                                    struct ph_str value)
{
    struct ph_envelope *envelope = &server->envelope;
    uint64_t number;
    unsigned refusal = 0;

    if (ph_str_eq_nocase(key, PH_STR("SIZE"))) {
        if (!ph_str_to_u64(value, &number)) {
            refusal = 501;
        } else if (number > server->options.message_size_max) {
            refusal = 552;
        }
    } else if (ph_str_eq_nocase(key, PH_STR("BODY"))) {
        if (ph_str_eq_nocase(value, PH_STR("8BITMIME"))) {
            envelope->body_type = PH_BODY_8BITMIME;
        } else if (!ph_str_eq_nocase(value, PH_STR("7BIT"))) {
            refusal = 501;
        }
    } else if (ph_str_eq_nocase(key, PH_STR("SMTPUTF8")) && value.len == 0) {
        envelope->smtputf8 = true;
    } else if (ph_str_eq_nocase(key, PH_STR("REQUIRETLS")) && value.len == 0 && server->tls) {
        envelope->requiretls = true;
    } else if (ph_str_eq_nocase(key, PH_STR("RET"))) {
        envelope->ret = ph_str_eq_nocase(value, PH_STR("FULL"))   ? PH_RET_FULL
                        : ph_str_eq_nocase(value, PH_STR("HDRS")) ? PH_RET_HEADERS
                                                                  : PH_RET_NONE;
        refusal = envelope->ret == PH_RET_NONE ? 501 : 0;
    } else if (ph_str_eq_nocase(key, PH_STR("ENVID"))) {
        if (is_xtext(value) && value.len <= PH_ENVID_BYTES_MAX) {
            envelope->envid = keep(server, value);
        } else {
            refusal = 501;
        }
    } else if (ph_str_eq_nocase(key, PH_STR("AUTH"))) {
        refusal = is_xtext(value) ? 0 : 501; // RFC 4954 §5: not passed on, since we trust nobody's
    } else {
        refusal = 555;
    }
    return refusal;
}

static void refuse_parameter(struct ph_server *server, unsigned code)
{
    if (code == 552) {
        ph_server_reply(server, 552, "5.3.4", "the message is larger than is accepted here");
    } else if (code == 555) {
        ph_server_reply_error(server, 555, "5.5.4", "unknown parameter");
    } else {
        ph_server_reply_error(server, 501, "5.5.4", "a parameter's value can't be read");
    }
}

static struct ph_str domain_of(struct ph_str address)
{
    ptrdiff_t at = ph_str_rfind_char(address, '@');

    return at >= 0 ? ph_str_after(address, (size_t)at + 1) : PH_STR_NONE;
}

// False: it was answered.
static bool sender_allowed(struct ph_server *server, const struct ph_address *address)
{
    char domain[PH_DOMAIN_BYTES_MAX + 1];
    char status[PH_STATUS_TEXT_MAX];
    struct ph_reason reason;

    if (server->options.judge_sender == NULL || address->text.len == 0 ||
        !ph_domain_normalize(address->domain, domain) ||
        server->options.judge_sender(server->options.owner, ph_str_from(domain), &reason)) {
        return true;
    }
    ph_server_reply(server, reason.code, ph_status_format(reason.status, status), reason.sentence);
    return false;
}

void ph_server_mail(struct ph_server *server, struct ph_str rest)
{
    struct ph_address address;
    struct ph_str key;
    struct ph_str value;
    unsigned refusal = 0;

    rest = ph_str_trim(rest);
    if (!ph_address_parse_path(&rest, &address) || (rest.len > 0 && rest.data[0] != ' ')) {
        ph_server_reply_error(server, 501, "5.1.7", "the reverse-path can't be read");
        return;
    }
    ph_server_reset_envelope(server);
    while (refusal == 0 && next_parameter(&rest, &key, &value)) {
        refusal = take_mail_parameter(server, key, value);
    }
    if (refusal != 0) {
        ph_server_reset_envelope(server);
        refuse_parameter(server, refusal);
        return;
    }
    if (address.utf8 && !server->envelope.smtputf8) {
        ph_server_reset_envelope(server);
        ph_server_reply_error(server, 553, "5.6.7", "such an address needs SMTPUTF8");
        return;
    }
    if (!sender_allowed(server, &address)) {
        ph_server_reset_envelope(server);
        return;
    }
    server->envelope.reverse_path = keep(server, address.text);
    server->envelope.sender =
        server->user.len > 0 ? ph_buf_str(&server->user) : domain_of(server->envelope.reverse_path);
    server->envelope.connector = server->options.connector;
    server->envelope.client_name = ph_str_from(server->client_name);
    server->envelope.client_address = server->options.client_address;
    server->envelope.priority = 1;
    server->in_transaction = true;
    ph_server_reply(server, 250, "2.1.0", "sender ok");
}

static bool take_notify(struct ph_str value, uint8_t *out)
{
    struct ph_str word;
    uint8_t bits = 0;

    while (ph_str_cut(&value, ',', &word)) {
        if (ph_str_eq_nocase(word, PH_STR("NEVER"))) {
            bits |= PH_NOTIFY_NEVER;
        } else if (ph_str_eq_nocase(word, PH_STR("SUCCESS"))) {
            bits |= PH_NOTIFY_SUCCESS;
        } else if (ph_str_eq_nocase(word, PH_STR("FAILURE"))) {
            bits |= PH_NOTIFY_FAILURE;
        } else if (ph_str_eq_nocase(word, PH_STR("DELAY"))) {
            bits |= PH_NOTIFY_DELAY;
        } else {
            return false;
        }
    }
    *out = bits;
    return bits != 0 && (bits == PH_NOTIFY_NEVER || !(bits & PH_NOTIFY_NEVER));
}

static unsigned take_rcpt_parameter(struct ph_server *server,
                                    struct ph_envelope_recipient *recipient, struct ph_str key,
                                    struct ph_str value)
{
    unsigned refusal = 0;

    if (ph_str_eq_nocase(key, PH_STR("NOTIFY"))) {
        refusal = take_notify(value, &recipient->notify) ? 0 : 501;
    } else if (ph_str_eq_nocase(key, PH_STR("ORCPT"))) {
        if (is_xtext(value) && value.len <= PH_ORCPT_BYTES_MAX &&
            ph_str_find_char(value, ';') > 0) {
            recipient->orcpt = keep(server, value);
        } else {
            refusal = 501;
        }
    } else {
        refusal = 555;
    }
    return refusal;
}

static void add_recipient(struct ph_server *server, const struct ph_envelope_recipient *recipient)
{
    if (server->recipient_count == server->recipient_cap) {
        uint32_t grown =
            server->recipient_cap == 0 ? PH_SERVER_RECIPIENTS_FIRST : server->recipient_cap * 2;

        server->recipients = reallocarray(server->recipients, grown, sizeof(*recipient));
        PH_CHECK(server->recipients != NULL);
        server->recipient_cap = grown;
    }
    server->recipients[server->recipient_count++] = *recipient;
}

void ph_server_rcpt(struct ph_server *server, struct ph_str rest)
{
    struct ph_envelope_recipient recipient = {.orcpt = PH_STR_NONE};
    struct ph_address address;
    char domain[PH_DOMAIN_BYTES_MAX + 1];
    struct ph_str key;
    struct ph_str value;
    unsigned refusal = 0;

    rest = ph_str_trim(rest);
    if (!ph_address_parse_path(&rest, &address) || address.text.len == 0 ||
        (rest.len > 0 && rest.data[0] != ' ')) {
        ph_server_reply_error(server, 501, "5.1.3", "the recipient can't be read");
    } else if (!server->options.may_relay && server->user.len == 0) {
        ph_server_reply_error(server, 550, "5.7.1", "relaying denied: authenticate first");
    } else if (address.literal) {
        ph_server_reply(server, 550, "5.1.2", "address literals are not relayed to");
    } else if (address.utf8 && !server->envelope.smtputf8) {
        ph_server_reply_error(server, 553, "5.6.7", "such an address needs SMTPUTF8");
    } else if (!ph_domain_normalize(address.domain, domain)) {
        ph_server_reply(server, 550, "5.1.2", "the domain is not a valid name");
    } else if (server->recipient_count >= server->options.recipients_max) {
        ph_server_reply(server, 452, "4.5.3", "too many recipients");
    } else {
        while (refusal == 0 && next_parameter(&rest, &key, &value)) {
            refusal = take_rcpt_parameter(server, &recipient, key, value);
        }
        if (refusal != 0) {
            refuse_parameter(server, refusal);
            return;
        }
        recipient.address = keep(server, address.text);
        recipient.domain = keep(server, ph_str_from(domain));
        add_recipient(server, &recipient);
        ph_server_reply(server, 250, "2.1.5", "recipient ok");
    }
}
