// A client's lines, cut anywhere, against the receiving conversation.
#pragma once

#include "smtp/server.h"

struct ph_server_options conversation_options(void);
// Feeds `in` in pieces of `step` bytes (0: whole), stores every message, and writes down what was
// stored ("[from>recipients:bytes]") and then the codes of the replies.
void conversation_run(const struct ph_server_options *options, struct ph_str in, size_t step,
                      struct ph_buf *out);
// The same, whatever the pieces: `wanted`.
void conversation_expect(const struct ph_server_options *options, const char *in,
                         const char *wanted);
