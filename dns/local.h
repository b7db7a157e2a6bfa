// LocalData: zone-file lines that are answered before any DNS. Pure.
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/str.h"

struct ph_dns_local; // immutable once filled

struct ph_dns_local *ph_dns_local_create(void);
void ph_dns_local_destroy(struct ph_dns_local *local); // NULL accepted
// One line: `contoso.test. [ttl] [IN] MX 10 mx1.contoso.test.`; types A, AAAA, MX, CNAME, TXT,
// TLSA. False, with a sentence, when it can't be read.
PH_MUST_CHECK bool ph_dns_local_add(struct ph_dns_local *local, struct ph_str line,
                                    struct ph_buf *error);
// Answers `op` (name, rrtype) when the name lies in a domain that the lines speak of (the last two
// labels of any of their names); false: it has to be asked elsewhere. Such answers are secure: they
// are the administrator's own word.
PH_MUST_CHECK bool ph_dns_local_answer(const struct ph_dns_local *local, struct ph_resolve_op *op);
