// Counters of all workers as Prometheus reads them, and whether all is well.
#pragma once

#include "base/buf.h"
#include "engine/engine.h"
#include "engine/survey.h"

void ph_metrics_write(struct ph_engine *engine, const struct ph_survey *survey, struct ph_buf *out);
// One line; false: mail isn't accepted, or may be lost.
bool ph_metrics_healthy(struct ph_engine *engine, struct ph_buf *out);
