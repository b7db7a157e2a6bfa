// The delivery log's writer: its own thread, so that a slow disk never holds up a worker. Bounded:
// when its disk is full, lines are dropped and counted; mail isn't.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define PH_LOG_WRITER_BYTES_MAX ((size_t)64 << 20) // lines that wait; ours

struct ph_log_writer;

// `path` "-": standard output; empty: lines are dropped. `header` begins each new file. NULL when
// the file can't be opened.
struct ph_log_writer *ph_log_writer_create(struct ph_str path, const char *header);
void ph_log_writer_destroy(struct ph_log_writer *writer); // writes what waits; NULL accepted
void ph_log_writer_put(struct ph_log_writer *writer, struct ph_str lines); // from any thread
// Returns when all lines put so far have been written, or dropped.
void ph_log_writer_flush(struct ph_log_writer *writer);
void ph_log_writer_reopen(struct ph_log_writer *writer); // SIGUSR1: the file was moved away
// Lines go to another file from now on; as at the start. False: it can't be opened, errno says why,
// and the old one stays.
PH_MUST_CHECK bool ph_log_writer_move(struct ph_log_writer *writer, struct ph_str path);
uint64_t ph_log_writer_dropped(struct ph_log_writer *writer); // lines
