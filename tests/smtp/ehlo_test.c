#include "smtp/ehlo.h"

#include <criterion/criterion.h>

static struct ph_ehlo parse(const char *text)
{
    struct ph_str input = ph_str_from(text);
    struct ph_reply reply;
    struct ph_ehlo ehlo;

    ph_reply_init(&reply);
    cr_assert_eq(ph_reply_feed(&reply, &input), PH_REPLY_COMPLETE);
    ehlo = ph_ehlo_parse(&reply);
    ph_reply_deinit(&reply);
    return ehlo;
}

Test(ehlo, keywords_in_any_case_with_parameters)
{
    struct ph_ehlo ehlo =
        parse("250-mx1.contoso.com greets you\r\n250-starttls\r\n250-Pipelining \r\n"
              "250-CHUNKING\r\n250-SIZE 35651584\r\n250-AUTH LOGIN CRAM-MD5 plain\r\n"
              "250-X-UNKNOWN 8BITMIME\r\n250 DSN\r\n");

    cr_assert(ehlo.starttls && ehlo.pipelining && ehlo.chunking && ehlo.dsn);
    cr_assert(ehlo.size && ehlo.size_max == 35651584);
    cr_assert(ehlo.auth_plain && ehlo.auth_login);
    cr_assert_not(ehlo.eightbitmime);
    cr_assert_not(ehlo.smtputf8);
}

Test(ehlo, the_first_line_is_the_greeting)
{
    // Row 110 of Exchange's truth table.
    struct ph_ehlo ehlo = parse("250-STARTTLS\r\n250 8BITMIME\r\n");

    cr_assert_not(ehlo.starttls);
    cr_assert(ehlo.eightbitmime);
    cr_assert_not(parse("250 STARTTLS\r\n").starttls);
}

Test(ehlo, odd_forms)
{
    cr_assert_eq(parse("250-x\r\n250 SIZE\r\n").size_max, 0);
    cr_assert_eq(parse("250-x\r\n250 SIZE many\r\n").size_max, 0);
    cr_assert(parse("250-x\r\n250 AUTH=LOGIN PLAIN\r\n").auth_plain);
    cr_assert(parse("250-x\r\n250 AUTH=LOGIN PLAIN\r\n").auth_login);
    cr_assert_not(parse("250-x\r\n250 STARTTLSX\r\n").starttls);
    cr_assert_not(parse("250-x\r\n250-\r\n250 \r\n").pipelining);
}
