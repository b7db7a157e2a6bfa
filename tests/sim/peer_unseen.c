// What the engine sent and nobody takes any more: behind the peer's last word, behind a reset, into
// a silence. No promise is broken by it and nothing is accepted, but a message that is whole in it
// is in doubt, since the engine can't know where the session ended.
#include <stdlib.h>

#include "tests/sim/peer_parts.h"

static void note_recipient(struct peer_session *s, struct ph_str line)
{
    ptrdiff_t at = ph_str_find(line, PH_STR("<"));
    struct ph_str address = ph_str_after(line, at >= 0 ? (size_t)at + 1 : line.len);
    unsigned id;
    unsigned recipient = SIM_RECIPIENTS_MAX;

    if ((sim_address_parse(address, &id, &recipient) || sim_sender_parse(address, &id)) &&
        s->recipient_count < SIM_TRANSACTION_RECIPIENTS_MAX) {
        s->recipients[s->recipient_count].id = id;
        s->recipients[s->recipient_count++].recipient = recipient;
    }
}

static void note_command(struct peer_session *s, struct ph_str line)
{
    if (ph_str_starts_nocase(line, PH_STR("RCPT TO:"))) {
        note_recipient(s, line);
    } else if (ph_str_starts_nocase(line, PH_STR("DATA"))) {
        s->in_data = true;
    } else if (ph_str_starts_nocase(line, PH_STR("BDAT "))) {
        s->in_bdat = true;
        s->bdat_left = strtoull(line.data + 5, NULL, 10);
        s->bdat_last = ph_str_find(line, PH_STR("LAST")) >= 0;
    } else {
        s->recipient_count = 0; // MAIL, RSET, QUIT
    }
}

static void note_whole(struct peer_session *s)
{
    (void)peer_wholes(s);
    s->recipient_count = 0;
}

static bool pass_chunk(struct peer_session *s)
{
    struct ph_str part = ph_str_first(ph_buf_str(&s->link.in), (size_t)s->bdat_left);

    s->bdat_left -= part.len;
    ph_buf_consume(&s->link.in, part.len);
    if (s->bdat_left > 0) {
        return false;
    }
    s->in_bdat = false;
    if (s->bdat_last) {
        note_whole(s);
    }
    return true;
}

static bool pass_line(struct peer_session *s)
{
    struct ph_str rest = ph_buf_str(&s->link.in);
    struct ph_str line;
    size_t before = rest.len;
    char copy[1024];

    if (!ph_str_cut_line(&rest, &line)) {
        return false;
    }
    line.len = ph_str_copy(copy, sizeof(copy), line);
    line.data = copy;
    ph_buf_consume(&s->link.in, before - rest.len);
    if (!s->in_data) {
        note_command(s, line);
    } else if (line.len == 1 && line.data[0] == '.') {
        s->in_data = false;
        note_whole(s);
    }
    return true;
}

void peer_unseen(struct peer_link *link)
{
    struct peer_session *s = PH_CONTAINER_OF(link, struct peer_session, link);

    while (s->in_bdat ? pass_chunk(s) : pass_line(s)) {
    }
}
