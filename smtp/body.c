// Content as it arrives → canonical bytes.
#include "smtp/body.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

void ph_body_init(struct ph_body *body, enum ph_body_mode mode, bool normalize)
{
    *body = (struct ph_body){.mode = mode, .normalize = normalize, .state = PH_BODY_LINE_START};
}

// The header's lines are looked at by their first bytes.
static void note_header(struct ph_body *body, const char *data, size_t len)
{
    if (body->header_over) {
        return;
    }
    body->header_bytes += len;
    for (size_t i = 0; i < len && body->field_len < sizeof(body->field); i++) {
        body->field[body->field_len++] = ph_ascii_lower(data[i]);
    }
}

// A line is whole: fields that matter are counted, an empty line ends the header.
static void end_field(struct ph_body *body)
{
    struct ph_str field = {.data = body->field, .len = body->field_len};
    struct ph_str name;

    if (!body->header_over && ph_str_starts(field, PH_STR("received:"))) {
        body->received_count++;
    } else if (!body->header_over && ph_str_cut(&field, ':', &name) &&
               ph_str_eq(name, PH_STR("tls-required"))) {
        // What is longer than is kept here says something else than "No".
        body->tls_optional =
            body->field_len < sizeof(body->field) && ph_str_eq(ph_str_trim(field), PH_STR("no"));
    }
    body->header_over |= body->field_len == 0;
    body->field_len = 0;
}

static void append(struct ph_body *body, struct ph_buf *out, const char *data, size_t len)
{
    ph_buf_append_bytes(out, data, len);
    body->size += len;
}

// Is the line's front one of those names, the beginning of one, or neither?
static void decide(struct ph_body *body)
{
    static const struct ph_str names[] = {PH_STR("X-MS-Exchange-Organization-"),
                                          PH_STR("X-MS-Exchange-Forest-")};
    struct ph_str held = {.data = body->held, .len = body->held_len};
    bool possible = false;

    if (held.data[0] == ' ' || held.data[0] == '\t') {
        body->fate = body->dropping ? PH_BODY_FIELD_DROPPED : PH_BODY_FIELD_KEPT;
        return;
    }
    for (size_t i = 0; i < PH_ARRAY_LEN(names); i++) {
        if (ph_str_starts_nocase(held, names[i])) {
            body->fate = PH_BODY_FIELD_DROPPED;
            body->dropped_count++;
        }
        possible |= ph_str_starts_nocase(names[i], held);
    }
    if (body->fate == PH_BODY_FIELD_OPEN && !possible) {
        body->fate = PH_BODY_FIELD_KEPT;
    }
    body->dropping = body->fate == PH_BODY_FIELD_DROPPED;
}

static void let_go(struct ph_body *body, struct ph_buf *out)
{
    if (body->fate != PH_BODY_FIELD_DROPPED) {
        append(body, out, body->held, body->held_len);
    }
    body->held_len = 0;
}

static void put_header(struct ph_body *body, struct ph_buf *out, const char *data, size_t len)
{
    while (len > 0 && body->fate == PH_BODY_FIELD_OPEN) {
        body->held[body->held_len++] = *data++;
        len--;
        decide(body);
    }
    if (body->fate != PH_BODY_FIELD_OPEN) {
        let_go(body, out);
    }
    if (body->fate == PH_BODY_FIELD_KEPT) {
        append(body, out, data, len);
    }
}

static void put(struct ph_body *body, struct ph_buf *out, const char *data, size_t len)
{
    note_header(body, data, len);
    if (body->header_over) {
        append(body, out, data, len);
    } else {
        put_header(body, out, data, len);
    }
}

static void end_line(struct ph_body *body, struct ph_buf *out)
{
    let_go(body, out);
    if (body->fate != PH_BODY_FIELD_DROPPED) {
        append(body, out, "\r\n", 2);
    }
    body->dropping = body->fate == PH_BODY_FIELD_DROPPED;
    body->fate = PH_BODY_FIELD_OPEN;
    end_field(body);
    body->state = PH_BODY_LINE_START;
}

static void found_bare(struct ph_body *body, struct ph_buf *out, char byte)
{
    if (body->normalize) {
        end_line(body, out);
        body->state = PH_BODY_BEHIND_BARE;
    } else {
        body->bare = true;
        put(body, out, &byte, 1);
        body->state = PH_BODY_IN_LINE;
    }
}

// A CR that no LF followed, and the byte that did.
static void behind_bare_cr(struct ph_body *body, struct ph_buf *out, char byte)
{
    found_bare(body, out, '\r');
    if (byte == '\r') {
        body->state = PH_BODY_CR;
    } else {
        // A dot here isn't at the start of an SMTP line: it is content.
        put(body, out, &byte, 1);
        body->state = PH_BODY_IN_LINE;
    }
}

#ifdef __SSE2__

#define WIDTH 16

// Which of the next 16 bytes are `byte`, as bits.
static unsigned equal_to(__m128i bytes, char byte)
{
    return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte)));
}

// Behind the header whole lines go through at once: the front of `input` in which each CR has its
// LF and each LF its CR, no dot stands at the start of a line, and nothing is left open at the end.
static size_t lines_run(struct ph_body *body, struct ph_str input)
{
    bool dots_matter = body->mode == PH_BODY_DATA;
    __m128i all = _mm_setzero_si128(); // every byte or-ed: who has its top bit set shows
    __m128i least = _mm_set1_epi8(-1); // the smallest of them: a NUL shows
    unsigned cr_before = 0;
    unsigned lf_before = body->state == PH_BODY_LINE_START;
    size_t run = 0;

    for (; input.len - run >= WIDTH; run += WIDTH) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(input.data + run));
        __m128i crs = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\r'));
        __m128i lfs = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n'));

        // In the midst of a line there is nothing more to look at.
        if (_mm_movemask_epi8(_mm_or_si128(crs, lfs)) != 0 || cr_before != 0 ||
            (lf_before != 0 && dots_matter)) {
            unsigned cr = (unsigned)_mm_movemask_epi8(crs);
            unsigned lf = (unsigned)_mm_movemask_epi8(lfs);
            unsigned dots = dots_matter ? equal_to(bytes, '.') : 0;

            if (((cr << 1 | cr_before) & 0xffff) != lf || (dots & (lf << 1 | lf_before)) != 0) {
                break;
            }
            cr_before = cr >> (WIDTH - 1);
            lf_before = lf >> (WIDTH - 1);
        }
        all = _mm_or_si128(all, bytes);
        least = _mm_min_epu8(least, bytes);
    }
    body->has_8bit |= _mm_movemask_epi8(all) != 0;
    body->nul |= equal_to(least, '\0') != 0;
    return run - cr_before;
}

#else

static size_t lines_run(struct ph_body *body, struct ph_str input)
{
    (void)body;
    (void)input;
    return 0;
}

#endif

// The run of bytes up to the next CR or LF, quickly.
static size_t plain_run(struct ph_body *body, struct ph_str input)
{
    const char *cr = memchr(input.data, '\r', input.len);
    size_t run = cr != NULL ? (size_t)(cr - input.data) : input.len;
    const char *lf = memchr(input.data, '\n', run);
    unsigned char all = 0;
    bool nul;

    run = lf != NULL ? (size_t)(lf - input.data) : run;
    for (size_t i = 0; i < run; i++) {
        all |= (unsigned char)input.data[i];
    }
    nul = memchr(input.data, '\0', run) != NULL;
    body->has_8bit |= (all & 0x80) != 0;
    body->nul |= nul;
    return run;
}

// One byte that isn't in the midst of a line.
static void take_special(struct ph_body *body, char byte, struct ph_buf *out)
{
    bool dots = body->mode == PH_BODY_DATA;

    switch (body->state) {
    case PH_BODY_LINE_START:
    case PH_BODY_BEHIND_BARE:
    case PH_BODY_IN_LINE:
        if (dots && body->state == PH_BODY_LINE_START && byte == '.') {
            body->state = PH_BODY_DOT;
        } else if (byte == '\r') {
            body->state = PH_BODY_CR;
        } else {
            found_bare(body, out, byte); // a LF alone
        }
        break;
    case PH_BODY_CR:
        if (byte == '\n') {
            end_line(body, out);
        } else {
            behind_bare_cr(body, out, byte);
        }
        break;
    case PH_BODY_DOT:
        if (byte == '\r') {
            body->state = PH_BODY_DOT_CR;
        } else if (byte == '\n') {
            found_bare(body, out, byte); // ".LF" never ends a message
        } else {
            put(body, out, &byte, 1); // the stuffed dot is gone
            body->state = PH_BODY_IN_LINE;
        }
        break;
    case PH_BODY_DOT_CR:
        if (byte == '\n') {
            body->ended = true;
        } else {
            behind_bare_cr(body, out, byte);
        }
        break;
    }
}

void ph_body_feed(struct ph_body *body, struct ph_str *input, struct ph_buf *out)
{
    while (input->len > 0 && !body->ended) {
        bool dot = body->mode == PH_BODY_DATA && body->state == PH_BODY_LINE_START &&
                   input->data[0] == '.';
        bool in_text = body->state == PH_BODY_LINE_START || body->state == PH_BODY_IN_LINE ||
                       body->state == PH_BODY_BEHIND_BARE;
        size_t run = in_text && !dot && body->header_over ? lines_run(body, *input) : 0;

        if (run > 0) {
            ph_buf_append_bytes(out, input->data, run);
            body->size += run;
            body->state = input->data[run - 1] == '\n' ? PH_BODY_LINE_START : PH_BODY_IN_LINE;
            *input = ph_str_after(*input, run);
            continue;
        }
        run = in_text && !dot ? plain_run(body, *input) : 0;
        if (run > 0) {
            put(body, out, input->data, run);
            body->state = PH_BODY_IN_LINE;
            *input = ph_str_after(*input, run);
        } else {
            char byte = input->data[0];

            body->has_8bit |= ((unsigned char)byte & 0x80) != 0;
            body->nul |= byte == '\0';
            take_special(body, byte, out);
            *input = ph_str_after(*input, 1);
        }
    }
}

void ph_body_finish(struct ph_body *body, struct ph_buf *out)
{
    if (body->state == PH_BODY_CR) {
        found_bare(body, out, '\r');
    }
    if (body->state != PH_BODY_LINE_START && body->state != PH_BODY_BEHIND_BARE) {
        end_line(body, out);
    }
}
