// The receiving conversation.
#include "smtp/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "smtp/server_parts.h"

static enum ph_server_event take_line(struct ph_server *server, struct ph_str *input);
static enum ph_server_event take_command(struct ph_server *server, struct ph_str line,
                                         bool more_behind);
static enum ph_server_event take_data(struct ph_server *server, struct ph_str *input);
static enum ph_server_event take_chunk(struct ph_server *server, struct ph_str *input);
static void greet(struct ph_server *server);

struct ph_server *ph_server_create(const struct ph_server_options *options)
{
    struct ph_server *server = ph_alloc(sizeof(*server));

    server->options = *options;
    SLIST_INIT(&server->blocks);
    greet(server);
    return server;
}

static void greet(struct ph_server *server)
{
    struct ph_str banner = server->options.banner;

    ph_buf_printf(&server->output, "220 %.*s %.*s\r\n", PH_STR_ARG(server->options.hostname),
                  PH_STR_ARG(banner.len > 0 ? banner : PH_STR("ESMTP")));
}

static void wipe(struct ph_buf *buf)
{
    if (buf->cap > 0) {
        explicit_bzero(buf->data, buf->cap);
    }
    ph_buf_clear(buf);
}

void ph_server_destroy(struct ph_server *server)
{
    struct ph_server_block *block;

    if (server == NULL) {
        return;
    }
    ph_server_reset_envelope(server);
    while ((block = SLIST_FIRST(&server->blocks)) != NULL) {
        SLIST_REMOVE_HEAD(&server->blocks, link);
        free(block);
    }
    wipe(&server->login_password);
    ph_buf_deinit(&server->login_password);
    ph_buf_deinit(&server->login_user);
    ph_buf_deinit(&server->user);
    ph_buf_deinit(&server->content);
    ph_buf_deinit(&server->output);
    free(server->recipients);
    free(server);
}

struct ph_buf *ph_server_output(struct ph_server *server)
{
    return &server->output;
}

struct ph_envelope *ph_server_envelope(struct ph_server *server)
{
    return &server->envelope;
}

struct ph_buf *ph_server_content(struct ph_server *server)
{
    return &server->content;
}

uint64_t ph_server_content_size(const struct ph_server *server)
{
    return server->body.size;
}

struct ph_str ph_server_user(const struct ph_server *server)
{
    return ph_buf_str(&server->user);
}

struct ph_str ph_server_client_name(const struct ph_server *server)
{
    return ph_str_from(server->client_name);
}

bool ph_server_in_message(const struct ph_server *server)
{
    return server->in_transaction;
}

const char *ph_server_protocol(const struct ph_server *server)
{
    const char *name = "SMTP";

    if (server->esmtp) {
        name = server->tls ? (server->user.len > 0 ? "ESMTPSA" : "ESMTPS") : "ESMTP";
    }
    return name;
}

bool ph_server_awaits_owner(const struct ph_server *server)
{
    return server->state == PH_SERVER_WAIT_AUTH || server->state == PH_SERVER_WAIT_CHUNK ||
           server->state == PH_SERVER_WAIT_STORED || server->state == PH_SERVER_WAIT_TLS;
}

// --- replies ---

void ph_server_reply(struct ph_server *server, unsigned code, const char *status, const char *text)
{
    struct ph_buf *out = &server->output;

    server->tarpit_owed |= server->options.tarpits && code >= 500 && server->user.len == 0;
    ph_buf_append_u64(out, code);
    ph_buf_append_char(out, ' ');
    if (status[0] != '\0') {
        ph_buf_append(out, ph_str_from(status));
        ph_buf_append_char(out, ' ');
    }
    ph_buf_append(out, ph_str_from(text));
    ph_buf_append(out, PH_STR("\r\n"));
}

void ph_server_reply_error(struct ph_server *server, unsigned code, const char *status,
                           const char *text)
{
    ph_server_reply(server, code, status, text);
    server->errors++;
    if (server->errors >= server->options.protocol_errors_max && server->state != PH_SERVER_ENDED) {
        ph_server_end(server, "4.7.0", "too many errors");
    }
}

void ph_server_end(struct ph_server *server, const char *status, const char *text)
{
    ph_server_reply(server, 421, status, text);
    server->discard_owed |= server->chunks_taken;
    server->chunks_taken = false;
    server->state = PH_SERVER_ENDED;
}

// --- input ---

enum ph_server_event ph_server_feed(struct ph_server *server, struct ph_str *input)
{
    enum ph_server_event event = PH_SERVER_EVENT_MORE;
    enum ph_server_state state;
    size_t before;

    do {
        before = input->len;
        state = server->state;
        if (server->discard_owed) {
            server->discard_owed = false;
            return PH_SERVER_EVENT_DISCARD;
        }
        if (server->tarpit_owed) {
            server->tarpit_owed = false;
            return PH_SERVER_EVENT_TARPIT;
        }
        switch (server->state) {
        case PH_SERVER_COMMANDS:
        case PH_SERVER_AUTH_PLAIN:
        case PH_SERVER_AUTH_USER:
        case PH_SERVER_AUTH_PASSWORD:
            event = take_line(server, input);
            break;
        case PH_SERVER_DATA:
            event = take_data(server, input);
            break;
        case PH_SERVER_BDAT:
        case PH_SERVER_SWALLOW:
            event = take_chunk(server, input);
            break;
        case PH_SERVER_WAIT_AUTH:
        case PH_SERVER_WAIT_CHUNK:
        case PH_SERVER_WAIT_STORED:
        case PH_SERVER_WAIT_TLS:
            return PH_SERVER_EVENT_MORE;
        case PH_SERVER_ENDED:
            return PH_SERVER_EVENT_ENDED;
        }
    } while (event == PH_SERVER_EVENT_MORE &&
             (input->len < before || server->state != state || server->state == PH_SERVER_ENDED ||
              server->discard_owed || server->tarpit_owed));
    return event;
}

static enum ph_server_event take_auth_line(struct ph_server *server, struct ph_str line);

// Clients that send without waiting send them behind an AUTH that was refused, too.
static bool may_be_credentials(const struct ph_server *server, struct ph_str line)
{
    static const char *const words[] = {"DATA", "RSET", "NOOP", "QUIT", "STARTTLS"};
    bool command = ph_str_find_char(line, ' ') >= 0;

    for (size_t i = 0; i < PH_ARRAY_LEN(words) && !command; i++) {
        command = ph_str_eq_nocase(line, ph_str_from(words[i]));
    }
    return server->state != PH_SERVER_COMMANDS || (server->auth_refused && !command);
}

// "AUTH PLAIN" of "AUTH PLAIN AHUAcA==", and the rest. False: it isn't AUTH.
static bool cut_auth(struct ph_str line, struct ph_str *out_told, struct ph_str *out_rest)
{
    struct ph_str rest = ph_str_trim(line);
    size_t len = 0;

    if (!ph_str_starts_nocase(rest, PH_STR("AUTH")) || rest.len == 4 ||
        (rest.data[4] != ' ' && rest.data[4] != '\t')) {
        return false;
    }
    rest = ph_str_trim(ph_str_after(rest, 4));
    while (len < rest.len && rest.data[len] != ' ' && rest.data[len] != '\t') {
        len++;
    }
    *out_told = ph_str_first(line, (size_t)(rest.data - line.data) + len);
    *out_rest = ph_str_after(rest, len);
    return true;
}

// Of AUTH the mechanism is told.
static void tell(const struct ph_server *server, struct ph_str line)
{
    struct ph_str told = line;
    struct ph_str rest = PH_STR_NONE;

    if (server->options.heard == NULL) {
        return;
    }
    if (may_be_credentials(server, line)) {
        told = PH_STR_NONE;
        rest = line;
    } else {
        (void)cut_auth(line, &told, &rest);
    }
    if (told.len > 0) {
        server->options.heard(server->options.owner, told);
    }
    if (rest.len > 0) {
        server->options.heard(server->options.owner, PH_STR("(credentials)"));
    }
}

static enum ph_server_event take_line(struct ph_server *server, struct ph_str *input)
{
    struct ph_str line;

    if (!ph_str_cut_line(input, &line)) {
        if (input->len > PH_SERVER_LINE_BYTES_MAX + 1) { // 1: the CR may have come without its LF
            *input = ph_str_after(*input, input->len);   // its end will come
            server->skipping_line = true;
        }
        return PH_SERVER_EVENT_MORE;
    }
    if (server->skipping_line || line.len > PH_SERVER_LINE_BYTES_MAX) {
        server->skipping_line = false;
        server->state = PH_SERVER_COMMANDS;
        ph_server_reply_error(server, 500, "5.5.2", "the line is too long");
        return PH_SERVER_EVENT_MORE;
    }
    tell(server, line);
    if (server->state != PH_SERVER_COMMANDS) {
        return take_auth_line(server, line);
    }
    return take_command(server, line, input->len > 0);
}

// --- commands ---

static void say_ehlo(struct ph_server *server, struct ph_str name, bool esmtp)
{
    struct ph_buf *out = &server->output;
    const struct ph_server_options *options = &server->options;
    size_t len;

    if (name.len == 0) {
        ph_server_reply_error(server, 501, "5.5.4", "a name is missing");
        return;
    }
    ph_server_reset_envelope(server);
    len = ph_str_copy(server->client_name, sizeof(server->client_name), name);
    for (size_t i = 0; i < len; i++) {
        char c = server->client_name[i];

        if (c <= 0x20 || c >= 0x7f || c == '(' || c == ')' || c == '\\') {
            server->client_name[i] = '?'; // it stands in a Received field
        }
    }
    server->greeted = true;
    server->esmtp = esmtp;
    if (!esmtp) {
        ph_buf_printf(out, "250 %.*s\r\n", PH_STR_ARG(options->hostname));
        return;
    }
    ph_buf_printf(out,
                  "250-%.*s\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
                  "250-DSN\r\n250-SIZE %llu\r\n",
                  PH_STR_ARG(options->hostname), (unsigned long long)options->message_size_max);
    if (options->starttls_offered && !server->tls) {
        ph_buf_append(out, PH_STR("250-STARTTLS\r\n"));
    }
    if (options->auth_offered && server->tls && server->user.len == 0) {
        ph_buf_append(out, PH_STR("250-AUTH PLAIN LOGIN\r\n"));
    }
    if (server->tls) {
        ph_buf_append(out, PH_STR("250-REQUIRETLS\r\n"));
    }
    ph_buf_append(out, PH_STR("250 ENHANCEDSTATUSCODES\r\n"));
}

static enum ph_server_event say_starttls(struct ph_server *server, struct ph_str rest,
                                         bool more_behind)
{
    if (server->tls || !server->options.starttls_offered) {
        ph_server_reply_error(server, 503, "5.5.1", "STARTTLS isn't possible now");
    } else if (rest.len > 0) {
        ph_server_reply_error(server, 501, "5.5.4", "STARTTLS takes no parameter");
    } else if (more_behind) {
        // CVE-2011-0411: what came in the clear would be taken for what came under TLS.
        ph_server_end(server, "4.7.0", "commands in the clear stood behind STARTTLS");
    } else {
        ph_server_reply(server, 220, "2.0.0", "ready for TLS");
        server->state = PH_SERVER_WAIT_TLS;
        return PH_SERVER_EVENT_STARTTLS;
    }
    return PH_SERVER_EVENT_MORE;
}

void ph_server_tls_established(struct ph_server *server)
{
    ph_server_reset_envelope(server);
    server->tls = true;
    server->greeted = false;
    server->state = PH_SERVER_COMMANDS;
}

static void begin_content(struct ph_server *server, enum ph_body_mode mode)
{
    ph_buf_clear(&server->content);
    server->options.trace(server->options.owner, server, &server->content);
    ph_body_init(&server->body, mode, server->options.normalize);
    server->body.size = server->content.len;
}

static void say_data(struct ph_server *server)
{
    if (!server->in_transaction || server->bdat_begun) {
        ph_server_reply_error(server, 503, "5.5.1", "DATA isn't possible now");
    } else if (server->recipient_count == 0) {
        ph_server_reply_error(server, 554, "5.5.1", "no valid recipients");
    } else {
        ph_server_reply(server, 354, "", "end with a dot on a line of its own");
        begin_content(server, PH_BODY_DATA);
        server->state = PH_SERVER_DATA;
    }
}

static void say_bdat(struct ph_server *server, struct ph_str rest)
{
    struct ph_str word = PH_STR_NONE;
    uint64_t size;

    rest = ph_str_trim(rest);
    if (!ph_str_cut(&rest, ' ', &word) || !ph_str_to_u64(word, &size)) {
        // How many bytes follow isn't known: nothing more can be understood.
        ph_server_end(server, "4.5.0", "BDAT without a size");
        return;
    }
    rest = ph_str_trim(rest);
    server->chunk_left = size;
    server->bdat_last = ph_str_eq_nocase(rest, PH_STR("LAST"));
    if (!server->in_transaction || server->recipient_count == 0 ||
        (rest.len > 0 && !server->bdat_last)) {
        server->state = PH_SERVER_SWALLOW;
        return;
    }
    if (!server->bdat_begun) {
        begin_content(server, PH_BODY_BDAT);
        server->bdat_begun = true;
    }
    server->state = PH_SERVER_BDAT;
}

static bool decode_plain(struct ph_server *server, struct ph_str text)
{
    struct ph_buf plain = {0};
    struct ph_str rest;
    struct ph_str authorization;
    struct ph_str user;
    bool good = ph_base64_decode(text, &plain);

    rest = ph_buf_str(&plain);
    good = good && ph_str_cut(&rest, '\0', &authorization) && ph_str_cut(&rest, '\0', &user) &&
           user.len > 0 && rest.len > 0 && ph_str_find_char(rest, '\0') < 0;
    if (good) {
        wipe(&server->login_user);
        wipe(&server->login_password);
        ph_buf_append(&server->login_user, user);
        ph_buf_append(&server->login_password, rest);
    }
    wipe(&plain);
    ph_buf_deinit(&plain);
    return good;
}

static enum ph_server_event begin_auth(struct ph_server *server, struct ph_str rest)
{
    struct ph_str mechanism = PH_STR_NONE;
    uint32_t errors = server->errors;

    rest = ph_str_trim(rest);
    (void)!ph_str_cut(&rest, ' ', &mechanism);
    rest = ph_str_trim(rest);
    if (!server->options.auth_offered || !server->esmtp) {
        ph_server_reply_error(server, 502, "5.5.1", "AUTH isn't offered");
    } else if (!server->tls) {
        ph_server_reply_error(server, 538, "5.7.11", "AUTH needs TLS: issue STARTTLS first");
    } else if (server->user.len > 0 || server->in_transaction) {
        ph_server_reply_error(server, 503, "5.5.1", "AUTH isn't possible now");
    } else if (ph_str_eq_nocase(mechanism, PH_STR("PLAIN"))) {
        if (rest.len > 0) {
            return take_auth_line(server, rest);
        }
        server->state = PH_SERVER_AUTH_PLAIN;
        ph_buf_append(&server->output, PH_STR("334 \r\n"));
    } else if (ph_str_eq_nocase(mechanism, PH_STR("LOGIN"))) {
        server->state = PH_SERVER_AUTH_USER;
        if (rest.len > 0) {
            return take_auth_line(server, rest);
        }
        ph_buf_append(&server->output, PH_STR("334 VXNlcm5hbWU6\r\n"));
    } else {
        ph_server_reply_error(server, 504, "5.5.4", "the mechanisms are PLAIN and LOGIN");
    }
    server->auth_refused = server->errors > errors;
    return PH_SERVER_EVENT_MORE;
}

// A line of the AUTH dialogue; in state COMMANDS the initial response of PLAIN.
static enum ph_server_event take_auth_line(struct ph_server *server, struct ph_str line)
{
    bool good = !ph_str_eq(line, PH_STR("*"));

    if (good && server->state == PH_SERVER_AUTH_USER) {
        wipe(&server->login_user);
        good = ph_base64_decode(line, &server->login_user) && server->login_user.len > 0;
        if (good) {
            server->state = PH_SERVER_AUTH_PASSWORD;
            ph_buf_append(&server->output, PH_STR("334 UGFzc3dvcmQ6\r\n"));
            return PH_SERVER_EVENT_MORE;
        }
    } else if (good && server->state == PH_SERVER_AUTH_PASSWORD) {
        wipe(&server->login_password);
        good = ph_base64_decode(line, &server->login_password) && server->login_password.len > 0;
    } else if (good) {
        good = decode_plain(server, line);
    }
    if (good) {
        server->state = PH_SERVER_WAIT_AUTH;
        return PH_SERVER_EVENT_AUTH;
    }
    server->state = PH_SERVER_COMMANDS;
    ph_server_reply_error(server, 501, "5.5.2", "the authentication was given up");
    return PH_SERVER_EVENT_MORE;
}

void ph_server_credentials(const struct ph_server *server, struct ph_str *out_user,
                           struct ph_str *out_password)
{
    *out_user = ph_buf_str(&server->login_user);
    *out_password = ph_buf_str(&server->login_password);
}

static void count_failure(struct ph_server *server)
{
    server->auth_failures++;
    if (server->auth_failures >= PH_SERVER_AUTH_FAILURES_MAX) {
        ph_server_end(server, "4.7.0", "too many failures");
    }
}

void ph_server_authenticated(struct ph_server *server, bool right)
{
    PH_CHECK(server->state == PH_SERVER_WAIT_AUTH);
    server->state = PH_SERVER_COMMANDS;
    if (right) {
        ph_buf_clear(&server->user);
        ph_buf_append(&server->user, ph_buf_str(&server->login_user));
        ph_server_reply(server, 235, "2.7.0", "authenticated");
    } else {
        ph_server_reply(server, 535, "5.7.8", "the user or the password is wrong");
        count_failure(server);
    }
    wipe(&server->login_user);
    wipe(&server->login_password);
}

void ph_server_authentication_put_off(struct ph_server *server)
{
    PH_CHECK(server->state == PH_SERVER_WAIT_AUTH);
    server->state = PH_SERVER_COMMANDS;
    ph_server_reply(server, 454, "4.7.0", "too many wrong passwords of late, try later");
    count_failure(server);
    wipe(&server->login_user);
    wipe(&server->login_password);
}

static bool cut_command(struct ph_str line, const char *name, struct ph_str *out_rest)
{
    struct ph_str command = ph_str_from(name);

    if (!ph_str_starts_nocase(line, command) ||
        (line.len > command.len && line.data[command.len] != ' ')) {
        return false;
    }
    *out_rest = ph_str_trim(ph_str_after(line, command.len));
    return true;
}

static bool cut_path_command(struct ph_str line, const char *name, struct ph_str *out_rest)
{
    struct ph_str command = ph_str_from(name);

    if (!ph_str_starts_nocase(line, command)) {
        return false;
    }
    *out_rest = ph_str_after(line, command.len);
    return true;
}

// The order of a session: TLS where it is demanded, then a greeting, then one transaction.
static bool may_send_mail(struct ph_server *server)
{
    bool may = false;

    if (server->options.require_tls && !server->tls) {
        ph_server_reply_error(server, 530, "5.7.0", "Must issue a STARTTLS command first");
    } else if (!server->greeted) {
        ph_server_reply_error(server, 503, "5.5.1", "EHLO comes first");
    } else if (server->in_transaction) {
        ph_server_reply_error(server, 503, "5.5.1", "a message is under way: RSET first");
    } else {
        may = true;
    }
    return may;
}

static enum ph_server_event take_command(struct ph_server *server, struct ph_str line,
                                         bool more_behind)
{
    enum ph_server_event event = PH_SERVER_EVENT_MORE;
    struct ph_str rest;

    if (cut_path_command(line, "MAIL FROM:", &rest)) {
        if (may_send_mail(server)) {
            ph_server_mail(server, rest);
        }
    } else if (cut_path_command(line, "RCPT TO:", &rest)) {
        if (!server->in_transaction || server->bdat_begun) {
            ph_server_reply_error(server, 503, "5.5.1", "MAIL comes first");
        } else {
            ph_server_rcpt(server, rest);
        }
    } else if (cut_command(line, "DATA", &rest)) {
        say_data(server);
    } else if (cut_command(line, "BDAT", &rest)) {
        say_bdat(server, rest);
    } else if (cut_command(line, "EHLO", &rest)) {
        say_ehlo(server, rest, true);
    } else if (cut_command(line, "HELO", &rest)) {
        say_ehlo(server, rest, false);
    } else if (cut_command(line, "RSET", &rest)) {
        ph_server_reset_envelope(server);
        ph_server_reply(server, 250, "2.0.0", "ok");
    } else if (cut_command(line, "NOOP", &rest)) {
        ph_server_reply(server, 250, "2.0.0", "ok");
    } else if (cut_command(line, "STARTTLS", &rest)) {
        event = say_starttls(server, rest, more_behind);
    } else if (cut_command(line, "AUTH", &rest)) {
        event = begin_auth(server, rest);
    } else if (cut_command(line, "VRFY", &rest)) {
        ph_server_reply(server, 252, "2.5.2", "send a message and see");
    } else if (cut_command(line, "HELP", &rest)) {
        ph_server_reply(server, 214, "2.0.0", "RFC 5321 has the commands");
    } else if (cut_command(line, "QUIT", &rest)) {
        ph_server_reply(server, 221, "2.0.0", "goodbye");
        server->state = PH_SERVER_ENDED;
    } else {
        ph_server_reply_error(server, 500, "5.5.1", "unknown command");
    }
    return event;
}

// --- content ---

static void set_fault(struct ph_server *server, unsigned code, const char *status, const char *text)
{
    if (server->fault.code == 0) {
        server->fault = (struct ph_server_fault){code, status, text};
    }
}

static void look_for_faults(struct ph_server *server)
{
    const struct ph_body *body = &server->body;

    if (body->bare) {
        set_fault(server, 550, "5.6.0", "a bare CR or LF is in the message: lines end with CRLF");
    }
    if (body->nul) {
        set_fault(server, 550, "5.6.0", "a NUL is in the message");
    }
    if (body->size > server->options.message_size_max) {
        set_fault(server, 552, "5.3.4", "the message is larger than is accepted here");
    }
    if (body->received_count >= server->options.hops_max) {
        set_fault(server, 554, "5.4.6", "too many hops: the message goes round");
    }
    if (!body->header_over && body->header_bytes > PH_SERVER_HEADER_BYTES_MAX) {
        set_fault(server, 552, "5.3.4", "the header is too long");
    }
    if (server->fault.code != 0) {
        ph_buf_clear(&server->content); // nobody will want it
    }
}

static enum ph_server_event message_over(struct ph_server *server)
{
    if (server->fault.code != 0) {
        struct ph_server_fault fault = server->fault;

        server->discard_owed = server->chunks_taken;
        ph_server_reset_envelope(server);
        server->state = PH_SERVER_COMMANDS;
        ph_server_reply_error(server, fault.code, fault.status, fault.text);
        return PH_SERVER_EVENT_MORE;
    }
    server->envelope.recipients = server->recipients;
    server->envelope.recipient_count = server->recipient_count;
    server->envelope.has_8bit = server->body.has_8bit;
    server->envelope.tls_optional = server->body.tls_optional && !server->envelope.requiretls;
    server->state = PH_SERVER_WAIT_STORED;
    return PH_SERVER_EVENT_MESSAGE;
}

// Content beyond what is kept here is handed over.
static bool hand_over(struct ph_server *server, enum ph_server_state back)
{
    if (server->content.len < PH_SERVER_CHUNK_BYTES || server->fault.code != 0) {
        return false;
    }
    server->envelope.recipients = server->recipients;
    server->envelope.recipient_count = server->recipient_count;
    server->chunks_taken = true;
    server->body.mode = back == PH_SERVER_DATA ? PH_BODY_DATA : PH_BODY_BDAT;
    server->state = PH_SERVER_WAIT_CHUNK;
    return true;
}

void ph_server_chunk_stored(struct ph_server *server)
{
    PH_CHECK(server->state == PH_SERVER_WAIT_CHUNK);
    server->state = server->body.mode == PH_BODY_DATA ? PH_SERVER_DATA : PH_SERVER_BDAT;
}

static enum ph_server_event take_data(struct ph_server *server, struct ph_str *input)
{
    // No more at a time than is kept here, so that a long input can't make the buffer long.
    struct ph_str part = ph_str_first(*input, PH_SERVER_CHUNK_BYTES);
    size_t before = part.len;

    ph_body_feed(&server->body, &part, &server->content);
    *input = ph_str_after(*input, before - part.len);
    look_for_faults(server);
    if (server->body.ended) {
        return message_over(server);
    }
    return hand_over(server, PH_SERVER_DATA) ? PH_SERVER_EVENT_CHUNK : PH_SERVER_EVENT_MORE;
}

static enum ph_server_event chunk_over(struct ph_server *server, bool swallowed)
{
    char text[64];

    if (swallowed) {
        server->state = PH_SERVER_COMMANDS;
        ph_server_reply_error(server, 503, "5.5.1", "BDAT isn't possible now");
        return PH_SERVER_EVENT_MORE;
    }
    if (server->bdat_last) {
        ph_body_finish(&server->body, &server->content);
        look_for_faults(server);
        return message_over(server);
    }
    server->state = PH_SERVER_COMMANDS;
    snprintf(text, sizeof(text), "%llu octets so far", (unsigned long long)server->body.size);
    ph_server_reply(server, 250, "2.0.0", text);
    return PH_SERVER_EVENT_MORE;
}

static enum ph_server_event take_chunk(struct ph_server *server, struct ph_str *input)
{
    bool swallow = server->state == PH_SERVER_SWALLOW;
    struct ph_str part = ph_str_first(*input, PH_SERVER_CHUNK_BYTES);

    part = ph_str_first(part, server->chunk_left);
    *input = ph_str_after(*input, part.len);
    server->chunk_left -= part.len;
    if (!swallow) {
        ph_body_feed(&server->body, &part, &server->content);
        look_for_faults(server);
    }
    if (server->chunk_left == 0) {
        return chunk_over(server, swallow);
    }
    return !swallow && hand_over(server, PH_SERVER_BDAT) ? PH_SERVER_EVENT_CHUNK
                                                         : PH_SERVER_EVENT_MORE;
}

void ph_server_stored(struct ph_server *server, struct ph_str id)
{
    PH_CHECK(server->state == PH_SERVER_WAIT_STORED);
    ph_server_reset_envelope(server);
    server->state = PH_SERVER_COMMANDS;
    ph_buf_append(&server->output, PH_STR("250 2.0.0 queued as "));
    ph_buf_append(&server->output, id);
    ph_buf_append(&server->output, PH_STR("\r\n"));
}

void ph_server_refused(struct ph_server *server, unsigned code, const char *status,
                       const char *text)
{
    if (server->state == PH_SERVER_WAIT_CHUNK) {
        // The rest of it still comes, and is answered then.
        set_fault(server, code, status, text);
        ph_buf_clear(&server->content);
        ph_server_chunk_stored(server);
        return;
    }
    PH_CHECK(server->state == PH_SERVER_WAIT_STORED);
    ph_server_reset_envelope(server);
    server->state = PH_SERVER_COMMANDS;
    ph_server_reply(server, code, status, text);
}
