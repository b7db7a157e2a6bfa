// Sends TLS reports (RFC 8460) when a period is over: by mail through our own spool, by HTTPS.
// Worker 0's.
#pragma once

struct ph_worker;
struct ph_tlsrpt_sender;

struct ph_tlsrpt_sender *ph_tlsrpt_sender_create(struct ph_worker *worker);
void ph_tlsrpt_sender_hurry(struct ph_tlsrpt_sender *sender); // the worker stops; NULL accepted
// Its reports under way have ended (worker->asking_count counts them). NULL accepted.
void ph_tlsrpt_sender_destroy(struct ph_tlsrpt_sender *sender);
