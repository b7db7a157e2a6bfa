// A BIO over bytes in memory.
#include "bench/lib/bytes_bio.h"

#include <string.h>

static int bio_read(BIO *bio, char *out, int len)
{
    struct ph_bytes_bio *bytes = BIO_get_data(bio);
    struct ph_str part = ph_str_first(bytes->input, (size_t)len);

    BIO_clear_retry_flags(bio);
    if (part.len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(out, part.data, part.len);
    bytes->input = ph_str_after(bytes->input, part.len);
    return (int)part.len;
}

static int bio_write(BIO *bio, const char *data, int len)
{
    struct ph_bytes_bio *bytes = BIO_get_data(bio);

    PH_CHECK(ph_buf_append_bytes(bytes->output, data, (size_t)len));
    return len;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

BIO *ph_bytes_bio_new(struct ph_bytes_bio *bytes)
{
    static BIO_METHOD *method;
    BIO *bio;

    if (method == NULL) {
        method = BIO_meth_new(BIO_get_new_index(), "bytes");
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_ctrl(method, bio_control);
    }
    bio = BIO_new(method);
    BIO_set_data(bio, bytes);
    BIO_set_init(bio, 1);
    return bio;
}
