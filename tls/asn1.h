// Dates of certificates and CRLs as seconds since 1970, and back as text.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/str.h"
#include "tls/boringssl.h"

#include <openssl/asn1.h>

// "260101000000Z" (UTCTime, RFC 5280 §4.1.2.5.1) or "20500101000000Z" (GeneralizedTime).
PH_MUST_CHECK bool ph_asn1_time_parse(struct ph_str text, int64_t *out_s);
PH_MUST_CHECK bool ph_asn1_time_to_s(const ASN1_TIME *asn1_time, int64_t *out_s);

#define PH_ASN1_DATE_TEXT_MAX 32
char *ph_asn1_date_format(int64_t seconds, char out[PH_ASN1_DATE_TEXT_MAX]); // "2026-01-31"
