// Answers from DNS: MX records, and lines of LocalData.
#include <string.h>

#include "dns/local.h"
#include "dns/mx.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .len = size};
    uint8_t choice = fuzz_byte(&input);
    struct ph_str own = PH_STR("self.test");
    struct ph_resolve_op answer = {.name = "d.test", .rrtype = PH_RRTYPE_MX};
    struct ph_mx_hosts *hosts = calloc(1, sizeof(*hosts));
    struct ph_dns_local *local = ph_dns_local_create();
    struct ph_buf error = {0};
    struct ph_reason reason;

    PH_CHECK(hosts != NULL);
    answer.status = (enum ph_resolve_status)(choice % (PH_RESOLVE_OK + 1));
    while (input.len > 0 && answer.rdata.len < 60000) {
        struct ph_str record = fuzz_piece(&input);

        ph_buf_append_char(&answer.rdata, (char)(record.len >> 8));
        ph_buf_append_char(&answer.rdata, (char)(record.len & 0xff));
        ph_buf_append(&answer.rdata, record);
        if (ph_dns_local_add(local, record, &error)) {
            struct ph_resolve_op asked = {.name = "d.test", .rrtype = PH_RRTYPE_MX};

            (void)!ph_dns_local_answer(local, &asked);
            ph_buf_deinit(&asked.rdata);
        }
        ph_buf_clear(&error);
    }
    if (choice & 128) { // lengths that lie
        answer.rdata.len -= answer.rdata.len > 3 ? 3 : 0;
    }
    if (ph_mx_read(&answer, &own, 1, hosts, &reason) == PH_MX_FOUND) {
        PH_CHECK(hosts->count > 0 && hosts->count <= PH_MX_HOSTS_MAX);
        for (size_t i = 0; i < hosts->count; i++) {
            PH_CHECK(strlen(hosts->hosts[i].name) < sizeof(hosts->hosts[i].name));
            PH_CHECK(i == 0 || hosts->hosts[i].preference >= hosts->hosts[i - 1].preference);
        }
    } else {
        PH_CHECK(reason.kind != PH_REASON_NONE);
    }
    ph_dns_local_destroy(local);
    ph_buf_deinit(&answer.rdata);
    ph_buf_deinit(&error);
    free(hosts);
    return 0;
}
