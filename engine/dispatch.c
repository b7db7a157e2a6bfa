// Counted things that dispatches share.
#include "engine/dispatch.h"

#include <stdlib.h>

void ph_site_spec_retain(struct ph_site_spec *spec)
{
    atomic_fetch_add_explicit(&spec->references, 1, memory_order_relaxed);
}

void ph_site_spec_release(struct ph_site_spec *spec)
{
    if (spec != NULL &&
        atomic_fetch_sub_explicit(&spec->references, 1, memory_order_acq_rel) == 1) {
        ph_config_release(spec->config);
        free(spec);
    }
}

void ph_session_note_retain(struct ph_session_note *note)
{
    atomic_fetch_add_explicit(&note->references, 1, memory_order_relaxed);
}

void ph_session_note_release(struct ph_session_note *note)
{
    if (note != NULL &&
        atomic_fetch_sub_explicit(&note->references, 1, memory_order_acq_rel) == 1) {
        ph_buf_deinit(&note->json);
        free(note);
    }
}
