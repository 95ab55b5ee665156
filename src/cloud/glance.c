#include "cloud/glance.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include <jansson.h>

#include "util/alloc.h"
#include "util/strutil.h"

// An image may have 128 properties of 255 bytes, and more where the operator allows it.
#define ANSWER_MAX_BYTES ((size_t)256 * 1024)
#define UUID_LEN 36

DEFINE_CLEANUP(json_t, json_decref)

bool glance_is_id(const char *text)
{
        if (strlen(text) != UUID_LEN)
                return false;
        for (size_t at = 0; at < UUID_LEN; at++) {
                bool is_hyphen = at == 8 || at == 13 || at == 18 || at == 23;

                if (is_hyphen ? text[at] != '-' : !isxdigit((unsigned char)text[at]))
                        return false;
        }
        return true;
}

// ---- the answer ---------------------------------------------------------------------------

static GlanceOutcome no_answer(GlanceImage *image)
{
        (void)error_set(&image->err, EBADMSG, "what Glance answered is no image");
        return GLANCE_NO_ANSWER;
}

static GlanceOutcome read_image(GlanceImage *image, const json_t *document)
{
        const char *id = json_string_value(json_object_get(document, "id"));
        const char *status = json_string_value(json_object_get(document, "status"));

        if (!id || !status || strlen(id) >= sizeof image->id ||
            strlen(status) >= sizeof image->status)
                return no_answer(image);
        (void)snprintf(image->id, sizeof image->id, "%s", id);
        (void)snprintf(image->status, sizeof image->status, "%s", status);
        return GLANCE_OK;
}

static GlanceOutcome read_list(GlanceImage *image, const json_t *document)
{
        const json_t *images = json_object_get(document, "images");

        if (!json_is_array(images))
                return no_answer(image);
        if (json_array_size(images) == 0)
                return GLANCE_NO_IMAGE;
        if (json_array_size(images) > 1)
                return GLANCE_SEVERAL;
        return read_image(image, json_array_get(images, 0));
}

static GlanceOutcome read_body(GlanceImage *image, const Buf *body)
{
        _cleanup_(json_decref_p) json_t *document = json_loadb(buf_str(body), body->len, 0, NULL);

        return glance_is_id(image->wanted) ? read_image(image, document)
                                           : read_list(image, document);
}

static GlanceOutcome judge(GlanceImage *image, const SessionAnswer *answer)
{
        const HttpResponse *response = answer->response;

        if (!response || response->error) {
                image->err = response ? *response->error : *answer->err;
                if (answer->login == SESSION_LOGGED_IN)
                        (void)error_prefix(&image->err, "Glance");
                return GLANCE_NO_ANSWER;
        }
        switch (response->status) {
        case 200:
                return read_body(image, response->body);
        case 403:
                return GLANCE_REFUSED;
        case 404:
                return GLANCE_NO_IMAGE;
        default:
                (void)error_set(&image->err, EREMOTEIO, "Glance answered %ld", response->status);
                return GLANCE_NO_ANSWER;
        }
}

static void on_answer(const SessionAnswer *answer, void *userdata)
{
        GlanceImage *image = userdata;

        image->outcome = judge(image, answer);
        image->done(image);
}

// ---- the question -------------------------------------------------------------------------

void glance_look_up(Session *session, GlanceImage *image)
{
        _cleanup_free_ char *escaped = http_escape(image->wanted);
        _cleanup_free_ char *path =
                glance_is_id(image->wanted)
                        ? xasprintf("/images/%s", escaped)
                        : xasprintf("/images?limit=2&status=active&name=%s", escaped);
        const SessionCall call = {.service = "image",
                                  .method = "GET",
                                  .version = "/v2",
                                  .path = path,
                                  .max_bytes = ANSWER_MAX_BYTES};

        session_call(session, &call, on_answer, image);
}

void glance_forget(Session *session, const GlanceImage *image)
{
        session_forget(session, image);
}
