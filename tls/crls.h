// A set of CRLs by issuer: immutable, shared by all threads; a new one takes its place as a whole.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tls/crl.h"
#include "tls/facts.h"

struct ph_crls; // reference-counted atomically

// Takes references to each of `crls`.
struct ph_crls *ph_crls_create(struct ph_crl *const *crls, size_t count);
// The lists of a text: of PEM all, of DER the one. NULL, with a sentence: there is none, or one
// that can't be read.
struct ph_crls *ph_crls_parse(struct ph_str text, struct ph_buf *error);
struct ph_crls *ph_crls_retain(struct ph_crls *crls);
void ph_crls_release(struct ph_crls *crls); // NULL accepted
size_t ph_crls_count(const struct ph_crls *crls);
struct ph_crl *ph_crls_at(const struct ph_crls *crls, size_t index); // NULL past the last; borrowed
// Byte for byte the same lists.
bool ph_crls_eq(const struct ph_crls *a, const struct ph_crls *b);

// One after another, all whose issuer has this name; NULL: no more. `*at` begins as 0. A NULL set
// has none.
const struct ph_crl *ph_crls_next(const struct ph_crls *crls, const X509_NAME *issuer, size_t *at);

// Changes whenever the set's CRLs of an issuer do: a decision that asked for them holds as long as
// the mark stays. `issuer_hash` is X509_NAME_hash's.
uint64_t ph_crls_mark(const struct ph_crls *crls, uint32_t issuer_hash);

void ph_crl_issuers_add(struct ph_crl_issuers *issuers, uint32_t issuer_hash);
// A decision made with `crls` has asked for the lists of `issuers`, beside what is in `asked`
// already. What has changed stays changed.
void ph_crls_ask(struct ph_crls_asked *asked, const struct ph_crls *crls,
                 const struct ph_crl_issuers *issuers);
// Have the lists of some of these issuers become other ones? Not where none was asked for.
bool ph_crls_changed_since(const struct ph_crls *crls, const struct ph_crls_asked *asked);
