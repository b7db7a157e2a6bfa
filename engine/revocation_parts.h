// The keeper of CRLs and one source of them: for the two files that do it.
#pragma once

#include <sys/queue.h>
#include <uthash.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/wheel.h"
#include "engine/revocation.h"
#include "engine/worker.h"
#include "tls/crls.h"

#define PH_REVOCATION_SOURCES_MAX 4096             // URLs and files; ours
#define PH_REVOCATION_BYTES_MAX ((size_t)32 << 20) // of one list; ours
#define PH_REVOCATION_FETCH_MS UINT64_C(60000)     // one fetch, whole; ours
#define PH_REVOCATION_REDIRECTS_MAX 3              // ours
#define PH_REVOCATION_RETRY_MS UINT64_C(30000)     // after a failure; doubled with each; ours
#define PH_REVOCATION_RETRY_MAX_MS UINT64_C(3600000)
#define PH_REVOCATION_IDLE_MS UINT64_C(604800000) // a list nobody used for 7 days is let go; ours
#define PH_REVOCATION_FILE_MS UINT64_C(60000)     // local files are looked at so often; ours

// One connection's question, on its way through the sources it asks.
struct revocation_wait {
    uint16_t worker;
    uint64_t ticket;
    unsigned open; // sources that have not settled yet
};
struct revocation_link {
    struct revocation_wait *wait;
    STAILQ_ENTRY(revocation_link) link;
};

// What is being done: from memory, from the disk, from the network, onto the disk.
//
//   IDLE → OPEN → SIZE → READ → PARSE → IDLE            (a local file)
//   IDLE → OPEN → SIZE → READ → PARSE ┬→ IDLE           (a URL, the first time: the copy on disk)
//                  └→ FETCH → PARSE ──┴→ CLEAR → CREATE → WRITE → SYNC → RENAME → IDLE
enum revocation_step {
    REVOCATION_IDLE,
    REVOCATION_OPEN,
    REVOCATION_SIZE,
    REVOCATION_READ,
    REVOCATION_FETCH,
    REVOCATION_PARSE,
    REVOCATION_CLEAR,
    REVOCATION_CREATE,
    REVOCATION_WRITE,
    REVOCATION_SYNC,
    REVOCATION_RENAME,
};

struct revocation_source {
    struct ph_revocation_keeper *keeper;
    UT_hash_handle hh; // by name
    char *name;        // URL or path
    char *copy;        // of a URL: the path of its copy on disk
    char *fresh_copy;  // the one being written
    bool is_file;
    bool obsolete; // goes when it is idle
    enum revocation_step step;
    bool from_disk;        // what is being parsed is the copy
    struct ph_crls *lists; // in force: of a URL one, of a file all that are in it; NULL: none
    struct ph_timer timer; // when it is looked at again
    unsigned failures;     // in a row
    uint64_t used_ms;      // schedule: when somebody asked, or a verdict was made with it
    STAILQ_HEAD(, revocation_link) links;
    // Who may have signed it.
    struct ph_buf issuers; // DER, one after another
    // The operation under way.
    struct ph_fetch_op fetch;
    struct ph_work_op work;
    struct ph_op op;
    struct ph_file *file;
    struct ph_buf data; // as read, fetched, or to be written
    // What parsing brought.
    struct ph_crls *parsed;
    struct ph_buf problem;
};

struct ph_revocation_keeper {
    struct ph_worker *worker;
    struct revocation_source *sources;
    unsigned busy; // sources with an operation under way
    bool stopping;
    struct ph_op directory_op;
};

// engine/revocation_source
struct revocation_source *ph_revocation_source_create(struct ph_revocation_keeper *keeper,
                                                      const char *name, bool is_file);
void ph_revocation_source_destroy(struct revocation_source *source); // idle
// Begins to look at it, if nothing is under way.
void ph_revocation_source_refresh(struct revocation_source *source);
// Is its list, or the latest failure, recent enough to go by?
bool ph_revocation_source_settled(const struct revocation_source *source);

// engine/revocation
// The source's list has changed: the set goes to all workers.
void ph_revocation_publish(struct ph_revocation_keeper *keeper);
// What was asked of it has its answer, such as it is.
void ph_revocation_settle(struct revocation_source *source);
void ph_revocation_forget(struct revocation_source *source); // destroys it
