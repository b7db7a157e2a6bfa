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
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    result = curl_easy_perform(curl);
    if (result != CURLE_OK) {
        fprintf(stderr, "posthaste: the daemon doesn't answer at %s: %s; is it running?\n",
                ph_buf_cstr(&path), curl_easy_strerror(result));
    }
    curl_free(escaped);
    curl_easy_cleanup(curl);
    ph_buf_deinit(&path);
    ph_buf_deinit(&url);
    return result == CURLE_OK;
}
