// Other programs' configurations into ours: text of it, and notes of what it doesn't say.
#pragma once

#include <stdbool.h>

#include "base/buf.h"

struct ph_import {
    struct ph_buf config;    // text in our format
    struct ph_buf transport; // lines of the TransportConfig block, which there is one of
    bool incomplete;         // something that demands TLS could not be read
    struct ph_buf notes;     // lines: what has no meaning here, what is left to do
};

void ph_import_note(struct ph_import *import, const char *format, ...) PH_PRINTF(2, 3);
// "text" with what needs it escaped.
void ph_import_put_quoted(struct ph_buf *out, struct ph_str text);
// Is the file there, and can it be read?
bool ph_import_readable(const char *path);

// JSON of Get-SendConnector, Get-ReceiveConnector, Get-TransportConfig and Get-TransportService, by
// ConvertTo-Json. False: told on standard error.
PH_MUST_CHECK bool ph_import_exchange(struct ph_import *import, const char *path);
// main.cf, with the maps it names beside it.
PH_MUST_CHECK bool ph_import_postfix(struct ph_import *import, const char *path);
