// How many connections each client address has, over all workers.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/endpoint.h"

struct ph_sources;

struct ph_sources *ph_sources_create(void);
void ph_sources_destroy(struct ph_sources *sources); // NULL accepted
// One more for the connector at `connector_key` and, unless `source_max` is UINT32_MAX, for the
// address. False, nothing counted: one of the limits is reached.
PH_MUST_CHECK bool ph_sources_add(struct ph_sources *sources, uint64_t connector_key,
                                  uint32_t connector_max, const struct ph_endpoint *source,
                                  uint32_t source_max);
void ph_sources_remove(struct ph_sources *sources, uint64_t connector_key,
                       const struct ph_endpoint *source);
