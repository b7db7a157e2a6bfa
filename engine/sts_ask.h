// Finds out a domain's MTA-STS policy: the TXT question, what is remembered, a fetch where that may
// have changed, and the new policy put on disk. An operation of its own.
#pragma once

#include "engine/keep_file.h"
#include "engine/sts_cache.h"

struct ph_worker;

struct ph_sts_ask {
    struct ph_op op; // the owner's: stepped when the answer is there
    // The answer.
    struct ph_sts_policy *policy; // a reference, the owner's; NULL: none in force
    uint64_t waived_until_ms;     // wall clock; 0: no exception
    // Its own.
    struct ph_worker *worker;
    char domain[PH_DNS_NAME_BYTES_MAX];
    char id[PH_STS_ID_BYTES_MAX + 1];
    enum ph_sts_record record;
    bool distrust;
    bool refresh;
    bool tell; // the queues that it concerns are tried then
    struct ph_resolve_op question;
    struct ph_fetch_op fetch;
    char url[PH_DNS_NAME_BYTES_MAX + 64];
    struct ph_keep_file *keep; // while it is written
    TAILQ_ENTRY(ph_sts_ask) link;
};
TAILQ_HEAD(ph_sts_ask_list, ph_sts_ask);

enum ph_sts_ask_how {
    PH_STS_ASK_NORMAL,
    PH_STS_ASK_DISTRUST,  // a host has just failed the policy: fetch it unless that is fresh
    PH_STS_ASK_REFRESH,   // fetch it in any case, the remembered one's id where no record is found
    PH_STS_ASK_EXCEPTION, // MtaStsMode = None: only whether there is an exception
};

// `op` is initialized by the owner; the object must stay where it is until the step.
void ph_sts_ask_start(struct ph_sts_ask *ask, struct ph_worker *worker, struct ph_str domain,
                      enum ph_sts_ask_how how);
void ph_sts_ask_hurry_all(struct ph_worker *worker); // ends the fetches that are under way
void ph_sts_ask_deinit(struct ph_sts_ask *ask);      // not under way; releases what wasn't taken

// By worker 0, now and then: fetches a policy again before it expires.
void ph_sts_refresh_due(struct ph_worker *worker);
// At an administrator's wish; nobody waits for it.
void ph_sts_refresh(struct ph_worker *worker, struct ph_str domain);
// Writes the exceptions to disk; nobody waits for it.
void ph_sts_keep_waived(struct ph_worker *worker);
