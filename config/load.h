// Text → an immutable snapshot, or all its errors in one run, each
// "FILE:LINE: C04 key: what is wrong; what to write instead".
#pragma once

#include "config/snapshot.h"
#include "config/variation.h"

// Where files come from: the disk, or a test's memory. May be NULL where none are named.
struct ph_config_files {
    // The whole file. `out_mode`: its permission bits. False, with a sentence.
    bool (*read)(void *owner, const char *path, struct ph_buf *out, unsigned *out_mode,
                 struct ph_buf *error);
    // The names that match, each ended by NUL, sorted; a pattern that starts with no slash is
    // looked for beside the file that includes it. False: none can be looked for.
    bool (*expand)(void *owner, const char *glob, struct ph_buf *out_names);
    void *owner;
    // A configuration in force is built anew for its certificates: one of our own that is missing
    // is no error, mail that needs it waits.
    bool running;
    const struct ph_config_variation *variation; // NULL: as it stands
    int64_t now_s; // by the wall clock: is a certificate about to expire? 0: nobody asks
};

// NULL when there are errors. Both buffers get lines.
struct ph_config *ph_config_parse_text(const char *name, struct ph_str text,
                                       const struct ph_config_files *files, struct ph_buf *errors,
                                       struct ph_buf *warnings);
// As above, with the disk's files for what the text names.
struct ph_config *ph_config_load_text(const char *name, struct ph_str text, struct ph_buf *errors,
                                      struct ph_buf *warnings);
// As above, from the disk.
struct ph_config *ph_config_load(const char *path, struct ph_buf *errors, struct ph_buf *warnings);

// As above, with one connector alone, and other settings than its own. Whatever the level, chains
// can be judged. NULL too where there is no such connector: "errors" is empty then.
struct ph_config *ph_config_load_varied(const char *path,
                                        const struct ph_config_variation *variation,
                                        struct ph_buf *errors, struct ph_buf *warnings);

// Were files of our own certificates changed, or is it time for another of them?
// `out_state` tells one change from the next.
PH_MUST_CHECK bool ph_config_certificates_changed(const struct ph_config *config,
                                                  uint64_t *out_state);
// The same text with the certificates, keys, anchors and CRLs of today: what an administrator is
// writing into the file meanwhile doesn't count.
struct ph_config *ph_config_load_again(const struct ph_config *config, struct ph_buf *errors,
                                       struct ph_buf *warnings);
