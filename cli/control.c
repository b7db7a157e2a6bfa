// The control socket, from the outside.
#include "cli/control.h"

#include <curl/curl.h>
#include <stdio.h>

static size_t take(char *data, size_t size, size_t count, void *owner)
{
    ph_buf_append_bytes(owner, data, size * count);
    return size * count;
}

bool ph_cli_ask(const struct ph_config *config, const char *what, const char *argument,
                struct ph_buf *out)
{
    bool refused;

    return ph_cli_ask_for(config, what, argument, out, &refused);
}

bool ph_cli_ask_for(const struct ph_config *config, const char *what, const char *argument,
                    struct ph_buf *out, bool *out_refused)
{
    long code = 0;
    CURL *curl = curl_easy_init();
    struct ph_buf path = {0};
    struct ph_buf url = {0};
    char *escaped = curl_easy_escape(curl, argument, 0);
    CURLcode result;

    ph_buf_append(&path, config->control_socket);
    ph_buf_printf(&url, "http://posthaste/%s?argument=%s", what, escaped);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, ph_buf_cstr(&path));
    curl_easy_setopt(curl, CURLOPT_URL, ph_buf_cstr(&url));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, out);
    result = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    *out_refused = result == CURLE_OK && code >= 400;
    if (*out_refused) {
        fprintf(stderr, "posthaste: %.*s\n", PH_STR_ARG(ph_str_trim(ph_buf_str(out))));
    } else if (result != CURLE_OK) {
        fprintf(stderr, "posthaste: the daemon doesn't answer at %s: %s; is it running?\n",
                ph_buf_cstr(&path), curl_easy_strerror(result));
    }
    curl_free(escaped);
    curl_easy_cleanup(curl);
    ph_buf_deinit(&path);
    ph_buf_deinit(&url);
    return result == CURLE_OK && !*out_refused;
}
