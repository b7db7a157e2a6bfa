// Paths and domains: what is accepted can be written and read again.
#include <string.h>

#include "smtp/address.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ph_str text = {.data = (const char *)data, .len = size};
    struct ph_str rest = text;
    struct ph_address address;
    char domain[PH_DOMAIN_BYTES_MAX + 1];

    if (ph_address_parse_path(&rest, &address)) {
        PH_CHECK(rest.len < text.len);
        PH_CHECK(ph_str_find_char(address.text, '\n') < 0 &&
                 ph_str_find_char(address.text, '\r') < 0);
        if (address.text.len > 0) {
            struct ph_address again;

            PH_CHECK(ph_address_parse(address.text, &again));
            PH_CHECK(ph_str_eq(again.domain, address.domain));
        }
    }
    if (ph_domain_normalize(text, domain)) {
        char again[PH_DOMAIN_BYTES_MAX + 1];

        PH_CHECK(strlen(domain) <= PH_DOMAIN_BYTES_MAX);
        PH_CHECK(ph_domain_normalize(ph_str_from(domain), again) && strcmp(domain, again) == 0);
    }
    return 0;
}
