// TLS tickets over a restart: SpoolDir/tickets, encrypted with the key in the file TlsTicketKey.
#pragma once

#include "base/buf.h"
#include "base/io.h"
#include "base/str.h"
#include "tls/tickets.h"

// At start and end, on the engine's own thread. `key_file` empty: nothing is kept. The key is made
// where there is none; the tickets' file is gone once it was read, so none is ever offered by two
// runs. What can't be done is said in `problem`, and costs full handshakes only.
void ph_ticket_file_load(struct ph_io *io, struct ph_str key_file, const char *spool_dir,
                         struct ph_tickets *tickets, struct ph_buf *problem);
void ph_ticket_file_save(struct ph_io *io, struct ph_str key_file, const char *spool_dir,
                         struct ph_tickets *tickets);
