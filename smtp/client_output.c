// Bytes on their way out: commands and bodies, without copying bodies.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/client_parts.h"

#define PH_CLIENT_PARTS_FIRST 16                 // power of two
#define PH_CLIENT_STUFF_BYTES ((size_t)64 << 10) // of a body dot-stuffed at a time; ours
#define PH_CLIENT_COMMAND_BYTES_MAX 2048         // longest formatted command; ours

void ph_client_output_init(struct ph_client_output *output)
{
    *output = (struct ph_client_output){0};
    TAILQ_INIT(&output->blocks);
}

static void free_first_block(struct ph_client_output *output)
{
    struct ph_client_block *block = TAILQ_FIRST(&output->blocks);

    TAILQ_REMOVE(&output->blocks, block, link);
    free(block);
}

void ph_client_output_deinit(struct ph_client_output *output)
{
    while (!TAILQ_EMPTY(&output->blocks)) {
        free_first_block(output);
    }
    free(output->parts);
    ph_buf_deinit(&output->stuffed);
}

static struct ph_client_part *part_at(struct ph_client_output *output, uint32_t index)
{
    return &output->parts[(output->part_first + index) & (output->part_cap - 1)];
}

static struct ph_client_part *add_part(struct ph_client_output *output)
{
    if (output->part_count == output->part_cap) {
        uint32_t cap = output->part_cap > 0 ? 2 * output->part_cap : PH_CLIENT_PARTS_FIRST;
        struct ph_client_part *grown = ph_alloc(cap * sizeof(*grown));

        for (uint32_t i = 0; i < output->part_count; i++) {
            grown[i] = *part_at(output, i);
        }
        free(output->parts);
        output->parts = grown;
        output->part_cap = cap;
        output->part_first = 0;
    }
    output->part_count++;
    return part_at(output, output->part_count - 1);
}

static struct ph_client_block *block_for(struct ph_client_output *output, size_t len)
{
    struct ph_client_block *block = TAILQ_LAST(&output->blocks, ph_client_block_list);

    PH_CHECK(len <= PH_CLIENT_BLOCK_BYTES);
    if (block == NULL || block->used + len > PH_CLIENT_BLOCK_BYTES) {
        block = malloc(sizeof(*block));
        PH_CHECK(block != NULL);
        block->used = 0;
        TAILQ_INSERT_TAIL(&output->blocks, block, link);
    }
    return block;
}

void ph_client_output_text(struct ph_client_output *output, struct ph_str text)
{
    struct ph_client_part *last =
        output->part_count > 0 ? part_at(output, output->part_count - 1) : NULL;
    struct ph_client_block *block = block_for(output, text.len);
    char *at = block->text + block->used;

    if (output->watch != NULL && !output->secret) {
        output->watch(output->watch_owner, text);
    }
    memcpy(at, text.data, text.len);
    block->used += text.len;
    output->end_offset += text.len;
    block->last_offset = output->end_offset;
    if (last != NULL && last->kind == PH_CLIENT_PART_BYTES && last->data + last->len == at) {
        last->len += text.len;
    } else {
        *add_part(output) =
            (struct ph_client_part){.kind = PH_CLIENT_PART_BYTES, .data = at, .len = text.len};
    }
}

void ph_client_output_printf(struct ph_client_output *output, const char *format, ...)
{
    char line[PH_CLIENT_COMMAND_BYTES_MAX];
    va_list arguments;
    int len;

    va_start(arguments, format);
    len = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    PH_CHECK(len > 0 && len < (int)sizeof(line));
    ph_client_output_text(output, (struct ph_str){.data = line, .len = (size_t)len});
}

void ph_client_output_body(struct ph_client_output *output,
                           const struct ph_client_transaction *transaction)
{
    for (int i = 0; i < transaction->body_count; i++) {
        if (transaction->body[i].iov_len > 0) {
            *add_part(output) = (struct ph_client_part){.kind = PH_CLIENT_PART_BYTES,
                                                        .data = transaction->body[i].iov_base,
                                                        .len = transaction->body[i].iov_len};
            output->end_offset += transaction->body[i].iov_len;
        }
    }
}

// How many dots stand at the start of a line (RFC 5321 §4.5.2).
static uint64_t count_dots(const struct ph_client_transaction *transaction)
{
    bool line_start = true;
    uint64_t dots = 0;

    for (int i = 0; i < transaction->body_count; i++) {
        const char *at = transaction->body[i].iov_base;
        const char *end = at + transaction->body[i].iov_len;

        while (at < end) {
            const char *newline;

            dots += line_start && *at == '.';
            newline = memchr(at, '\n', (size_t)(end - at));
            line_start = newline != NULL;
            at = newline != NULL ? newline + 1 : end;
        }
    }
    return dots;
}

void ph_client_output_stuffed(struct ph_client_output *output,
                              const struct ph_client_transaction *transaction)
{
    uint64_t dots = count_dots(transaction);

    if (dots == 0) {
        ph_client_output_body(output, transaction);
    } else {
        *add_part(output) = (struct ph_client_part){.kind = PH_CLIENT_PART_STUFFED,
                                                    .len = transaction->body_len + dots,
                                                    .transaction = transaction};
        output->end_offset += transaction->body_len + dots;
    }
    ph_client_output_text(output, PH_STR(".\r\n"));
}

// Makes the next piece of the stuffed body at the front.
static void stuff_more(struct ph_client_output *output,
                       const struct ph_client_transaction *transaction)
{
    ph_buf_clear(&output->stuffed);
    output->stuffed_at = 0;
    while (output->slice < transaction->body_count && output->stuffed.len < PH_CLIENT_STUFF_BYTES) {
        const struct iovec *slice = &transaction->body[output->slice];
        const char *at = (const char *)slice->iov_base + output->slice_at;
        size_t left = slice->iov_len - output->slice_at;
        const char *newline;
        size_t len;

        if (left == 0) {
            output->slice++;
            output->slice_at = 0;
            continue;
        }
        if (output->line_start && *at == '.') {
            ph_buf_append_char(&output->stuffed, '.');
        }
        newline = memchr(at, '\n', left);
        len = newline != NULL ? (size_t)(newline - at) + 1 : left;
        ph_buf_append_bytes(&output->stuffed, at, len);
        output->line_start = newline != NULL;
        output->slice_at += len;
    }
}

int ph_client_output_slices(struct ph_client_output *output, struct iovec *out, int max)
{
    int count = 0;

    for (uint32_t i = 0; i < output->part_count && count < max; i++) {
        struct ph_client_part *part = part_at(output, i);

        switch (part->kind) {
        case PH_CLIENT_PART_BYTES:
            out[count++] =
                (struct iovec){.iov_base = (void *)(uintptr_t)part->data, .iov_len = part->len};
            break;
        case PH_CLIENT_PART_STUFFED:
            if (i > 0) {
                return count; // made when it stands at the front
            }
            if (output->stuffed_at == output->stuffed.len) {
                if (output->stuffed.len == 0) {
                    output->slice = 0;
                    output->slice_at = 0;
                    output->line_start = true;
                }
                stuff_more(output, part->transaction);
            }
            out[count++] = (struct iovec){.iov_base = output->stuffed.data + output->stuffed_at,
                                          .iov_len = output->stuffed.len - output->stuffed_at};
            if (output->stuffed.len - output->stuffed_at < part->len) {
                return count; // the rest of it comes next
            }
            break;
        }
    }
    return count;
}

void ph_client_output_sent(struct ph_client_output *output, uint64_t len)
{
    output->sent_offset += len;
    PH_CHECK(output->sent_offset <= output->end_offset);
    if (output->handed_offset < output->sent_offset) {
        output->handed_offset = output->sent_offset;
    }
    while (len > 0) {
        struct ph_client_part *part = part_at(output, 0);
        uint64_t part_len = len < part->len ? len : part->len;

        if (part->kind == PH_CLIENT_PART_BYTES) {
            part->data += part_len;
        } else {
            PH_CHECK(part_len <= output->stuffed.len - output->stuffed_at);
            output->stuffed_at += part_len;
        }
        part->len -= part_len;
        len -= part_len;
        if (part->len == 0) {
            if (part->kind == PH_CLIENT_PART_STUFFED) {
                ph_buf_clear(&output->stuffed);
                output->stuffed_at = 0;
            }
            output->part_first = (output->part_first + 1) & (output->part_cap - 1);
            output->part_count--;
        }
    }
    while (TAILQ_FIRST(&output->blocks) != TAILQ_LAST(&output->blocks, ph_client_block_list) &&
           TAILQ_FIRST(&output->blocks)->last_offset <= output->sent_offset) {
        free_first_block(output);
    }
    if (output->part_count == 0 && !TAILQ_EMPTY(&output->blocks)) {
        TAILQ_FIRST(&output->blocks)->used = 0;
    }
}

void ph_client_output_shed(struct ph_client_output *output)
{
    while (!TAILQ_EMPTY(&output->blocks)) {
        free_first_block(output);
    }
    free(output->parts);
    output->parts = NULL;
    output->part_cap = 0;
    output->part_first = 0;
    ph_buf_deinit(&output->stuffed);
}

void ph_client_output_drop(struct ph_client_output *output)
{
    output->part_count = 0;
    ph_buf_clear(&output->stuffed);
    output->stuffed_at = 0;
}
