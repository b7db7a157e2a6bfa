// `posthaste queue suspend`, `resume`, `bounce`, `delete` and `export`.
#include "cli/queue_steer.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/control.h"
#include "engine/queue_query.h"
#include "queue/spool.h"

bool ph_cli_queue_steers(const char *what)
{
    static const char *const names[] = {"suspend", "resume", "bounce", "delete", "export"};

    for (size_t i = 0; i < PH_ARRAY_LEN(names); i++) {
        if (strcmp(what, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int ask(const struct ph_config *config, const char *what, const char *argument,
               struct ph_buf *out)
{
    bool refused;

    return ph_cli_ask_for(config, what, argument, out, &refused) ? PH_EXIT_YES
           : refused                                             ? PH_EXIT_NO
                                                                 : PH_EXIT_UNREACHABLE;
}

static bool write_all(int fd, struct ph_str text)
{
    while (text.len > 0) {
        ssize_t wrote = write(fd, text.data, text.len);

        if (wrote < 0 && errno != EINTR) {
            return false;
        }
        text = ph_str_after(text, wrote > 0 ? (size_t)wrote : 0);
    }
    return true;
}

// One message to DIRECTORY/ID.eml, which must not be there; without a directory to standard output.
static int export_one(const struct ph_config *config, struct ph_str id, const char *directory)
{
    struct ph_buf id_text = {0};
    struct ph_buf content = {0};
    struct ph_buf path = {0};
    int fd = STDOUT_FILENO;
    int result;

    ph_buf_append(&id_text, id);
    result = ask(config, "content", ph_buf_cstr(&id_text), &content);
    if (result == PH_EXIT_YES && directory != NULL) {
        ph_buf_printf(&path, "%s/%.*s.eml", directory, PH_STR_ARG(id));
        fd = open(ph_buf_cstr(&path), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    if (result == PH_EXIT_YES && (fd < 0 || !write_all(fd, ph_buf_str(&content)))) {
        fprintf(stderr, "posthaste: %s: %s\n", directory != NULL ? ph_buf_cstr(&path) : "output",
                strerror(errno));
        result = PH_EXIT_UNREADABLE;
    }
    if (directory != NULL && fd >= 0 && result != PH_EXIT_NO) {
        close(fd);
    }
    ph_buf_deinit(&id_text);
    ph_buf_deinit(&content);
    ph_buf_deinit(&path);
    return result;
}

// All that the query finds, a file each.
static int export_found(const struct ph_config *config, const char *query, const char *directory)
{
    struct ph_buf found = {0};
    struct ph_str rest;
    struct ph_str id;
    unsigned count = 0;
    int result = ask(config, "find", query, &found);

    rest = ph_buf_str(&found);
    while (result == PH_EXIT_YES && ph_str_cut(&rest, '\n', &id)) {
        int one = export_one(config, id, directory);

        // One that went out meanwhile is no failure.
        count += one == PH_EXIT_YES;
        result = one == PH_EXIT_NO ? PH_EXIT_YES : one;
    }
    if (result == PH_EXIT_YES) {
        printf("%u messages are in %s\n", count, directory);
    }
    ph_buf_deinit(&found);
    return result;
}

static int steer(const struct ph_config *config, const char *what, const char *query, bool json)
{
    struct ph_buf answer = {0};
    int result = ask(config, what, query, &answer);

    if (result == PH_EXIT_YES && json) {
        printf("%.*s\n", PH_STR_ARG(ph_buf_str(&answer)));
    } else if (result == PH_EXIT_YES) {
        static const char *const words[][2] = {{"suspend", "suspended"},
                                               {"resume", "tried again"},
                                               {"bounce", "returned to their senders"},
                                               {"delete", "deleted"}};
        json_t *object = json_loadb(answer.data, answer.len, 0, NULL);
        const char *word = "";

        for (size_t i = 0; i < PH_ARRAY_LEN(words); i++) {
            word = strcmp(what, words[i][0]) == 0 ? words[i][1] : word;
        }
        printf("%lld recipients are %s%s\n",
               (long long)json_integer_value(json_object_get(object, "recipients")), word,
               json_is_true(json_object_get(object, "new_mail_held"))
                   ? "; new mail for it is held until it is resumed"
                   : "");
        json_decref(object);
    }
    ph_buf_deinit(&answer);
    return result;
}

int ph_cli_queue_steer(const struct ph_cli_options *options, const struct ph_config *config)
{
    const char *what = options->arguments[0];
    bool exports = strcmp(what, "export") == 0;
    int terms = options->argument_count;
    const char *directory = NULL;
    struct ph_queue_query query;
    struct ph_buf error = {0};
    struct ph_buf text = {0};
    int result = PH_EXIT_USAGE;

    if (exports && terms > 2 && strncmp(options->arguments[terms - 1], "to=", 3) == 0) {
        directory = options->arguments[--terms] + 3;
    }
    for (int i = 1; i < terms; i++) {
        ph_buf_printf(&text, "%s ", options->arguments[i]);
    }
    if (!ph_queue_query_parse(ph_buf_str(&text), &query, &error)) {
        fprintf(stderr, "posthaste: queue %s: %s\n", what, ph_buf_cstr(&error));
    } else if (exports && directory == NULL && !query.by_id) {
        fprintf(stderr,
                "posthaste: queue export ID writes one message to standard output; for more "
                "write queue export QUERY to=DIRECTORY\n");
    } else if (exports && directory == NULL) {
        char id[PH_MESSAGE_ID_TEXT_MAX];

        result = export_one(config, ph_str_from(ph_message_id_format(query.id, id)), NULL);
    } else {
        result = exports ? export_found(config, ph_buf_cstr(&text), directory)
                         : steer(config, what, ph_buf_cstr(&text), options->json);
    }
    ph_buf_deinit(&error);
    ph_buf_deinit(&text);
    return result;
}
