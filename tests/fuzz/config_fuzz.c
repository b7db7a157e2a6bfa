// Configuration text: no crash, and either a snapshot or errors that name a line.
#include <string.h>

#include "config/load.h"
#include "config/snapshot.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ph_str text = {.data = (const char *)data, .len = size};
    struct ph_buf errors = {0};
    struct ph_buf warnings = {0};
    struct ph_config *config = ph_config_parse_text("f.conf", text, NULL, &errors, &warnings);

    PH_CHECK((config != NULL) == (errors.len == 0));
    ph_config_release(config);
    ph_buf_deinit(&errors);
    ph_buf_deinit(&warnings);
    return 0;
}
