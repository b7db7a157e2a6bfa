// What a peer can do.
#include "smtp/ehlo.h"

static void parse_auth(struct ph_ehlo *ehlo, struct ph_str mechanisms)
{
    struct ph_str mechanism;

    while (ph_str_cut(&mechanisms, ' ', &mechanism)) {
        ehlo->auth_plain = ehlo->auth_plain || ph_str_eq_nocase(mechanism, PH_STR("PLAIN"));
        ehlo->auth_login = ehlo->auth_login || ph_str_eq_nocase(mechanism, PH_STR("LOGIN"));
    }
}

static void parse_keyword(struct ph_ehlo *ehlo, struct ph_str keyword, struct ph_str parameters)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {
        {"STARTTLS", &ehlo->starttls},
        {"PIPELINING", &ehlo->pipelining},
        {"CHUNKING", &ehlo->chunking},
        {"8BITMIME", &ehlo->eightbitmime},
        {"SMTPUTF8", &ehlo->smtputf8},
        {"DSN", &ehlo->dsn},
        {"ENHANCEDSTATUSCODES", &ehlo->enhanced_status_codes},
        {"REQUIRETLS", &ehlo->requiretls},
        {"SIZE", &ehlo->size},
    };

    for (size_t i = 0; i < PH_ARRAY_LEN(flags); i++) {
        if (ph_str_eq_nocase(keyword, ph_str_from(flags[i].name))) {
            *flags[i].flag = true;
        }
    }
    if (ph_str_eq_nocase(keyword, PH_STR("SIZE"))) {
        uint64_t size_max;

        // Not a number: as if none had been told (RFC 1870 §4).
        ehlo->size_max = ph_str_to_u64(ph_str_trim(parameters), &size_max) ? size_max : 0;
    } else if (ph_str_eq_nocase(keyword, PH_STR("AUTH"))) {
        parse_auth(ehlo, parameters);
    } else if (ph_str_starts_nocase(keyword, PH_STR("AUTH="))) {
        parse_auth(ehlo, ph_str_after(keyword, 5)); // an old form that some still send beside AUTH
        parse_auth(ehlo, parameters);
    }
}

struct ph_ehlo ph_ehlo_parse(const struct ph_reply *reply)
{
    struct ph_ehlo ehlo = {0};
    struct ph_str lines = ph_buf_str(&reply->text);
    struct ph_str line;
    bool greeting = true;

    while (ph_str_cut(&lines, '\n', &line)) {
        struct ph_str rest = ph_str_trim(line);
        struct ph_str keyword;

        if (!greeting && ph_str_cut(&rest, ' ', &keyword)) {
            parse_keyword(&ehlo, keyword, rest);
        }
        greeting = false;
    }
    return ehlo;
}
