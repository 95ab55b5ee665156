#include "net/kerberos.h"

#include <errno.h>
#include <gssapi/gssapi.h>
#include <stdlib.h>
#include <string.h>

#include "util/alloc.h"
#include "util/strutil.h"

#define CACHE_VARIABLE "KRB5CCNAME"
#define KEYTAB_VARIABLE "KRB5_CLIENT_KTNAME"
#define MEMORY_CACHE "MEMORY:packuilon"
#define WORDS_MAX 200

void kerberos_use(const char *keytab, const char *cache)
{
        if (keytab)
                (void)setenv(KEYTAB_VARIABLE, keytab, 1);
        if (cache || keytab)
                (void)setenv(CACHE_VARIABLE, cache ? cache : MEMORY_CACHE, 1);
}

static char *from_buffer(const gss_buffer_desc *buffer)
{
        return str_visible(buffer->length ? buffer->value : "", buffer->length, WORDS_MAX);
}

// The mechanism's own words, which are better than those of GSSAPI. The caller frees.
static char *status_words(OM_uint32 major, OM_uint32 minor)
{
        gss_buffer_desc text = GSS_C_EMPTY_BUFFER;
        OM_uint32 ignored, more = 0;
        char *words;

        if (gss_display_status(&ignored, minor ? minor : major,
                               minor ? GSS_C_MECH_CODE : GSS_C_GSS_CODE, GSS_C_NO_OID, &more,
                               &text) != GSS_S_COMPLETE)
                return xstrdup("unknown reason");
        words = from_buffer(&text);
        (void)gss_release_buffer(&ignored, &text);
        return words;
}

static const char *what_to_do(void)
{
        return getenv(KEYTAB_VARIABLE) ? "check KRB5_KEYTAB and the KDC"
                                       : "run kinit (or set KRB5_KEYTAB)";
}

int kerberos_check(Error *err)
{
        const char *cache = getenv(CACHE_VARIABLE);
        gss_cred_id_t credentials = GSS_C_NO_CREDENTIAL;
        _cleanup_free_ char *words = NULL;
        OM_uint32 major, minor, ignored, seconds = 0;

        major = gss_acquire_cred(&minor, GSS_C_NO_NAME, GSS_C_INDEFINITE, GSS_C_NO_OID_SET,
                                 GSS_C_INITIATE, &credentials, NULL, NULL);
        if (GSS_ERROR(major)) {
                words = status_words(major, minor);
                return error_set(err, EACCES, "no Kerberos ticket: %s; %s", words, what_to_do());
        }
        // Not asked for the principal, which the library leaks when the ticket has expired.
        (void)gss_inquire_cred(&ignored, credentials, NULL, &seconds, NULL, NULL);
        (void)gss_release_cred(&ignored, &credentials);
        if (seconds == 0)
                return error_set(err, EKEYEXPIRED, "the Kerberos ticket in %s has expired; %s",
                                 cache ? cache : "the cache of this user", what_to_do());
        return 0;
}
