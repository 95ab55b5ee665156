// The part of `packuilon check` that asks the cloud: Keystone for a login, Glance for the source
// images. A cloud that hangs costs it a few seconds.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bin/check.h"
#include "builder/redact.h"
#include "cloud/glance.h"
#include "core/maps.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define ANSWER_SECONDS 10 // for one answer
#define IMAGES_SECONDS 20 // for those about all images
#define IMAGES_MAX 250
#define PARALLEL 4
#define KEYS_SHOWN 3 // of one image
#define KEY_SHOWN_MAX 80
#define USEC_PER_SECOND UINT64_C(1000000)

// A source image, and the os keys that lead to it.
typedef struct Wanted {
        CloudCheck *cloud;
        GlanceImage image;
        char *id;
        char *keys; // as shown
        size_t n_keys;
        bool answered;
} Wanted;

// A login and what is asked with it. The first to fail ends the asking.
struct CloudCheck {
        Check *check;
        const char *auth_file;
        sd_event *event;
        Session *session;
        bool logged_in;

        Wanted *wanted;
        size_t n_wanted, n_more, n_asked, n_answered;
        bool is_over; // all there is to wait for
        SessionLogin login;
        Error err;
};

// ---- a login ------------------------------------------------------------------------------

static void cloud_check_free(CloudCheck *cloud)
{
        if (cloud->session)
                session_free(cloud->session);
        (void)sd_event_unref(cloud->event);
        for (size_t at = 0; at < cloud->n_wanted; at++) {
                free(cloud->wanted[at].id);
                free(cloud->wanted[at].keys);
        }
        free(cloud->wanted);
        free(cloud);
}
DEFINE_CLEANUP(CloudCheck, cloud_check_free)
#define _cleanup_cloud_ _cleanup_(cloud_check_free_p)

static int cloud_check_new(Check *check, const char *auth_file, SessionScope scope,
                           CloudCheck **ret, Error *err)
{
        static const HttpLimits limits = {.parallel = PARALLEL, .timeout_seconds = ANSWER_SECONDS};
        _cleanup_cloud_ CloudCheck *cloud = xcalloc(1, sizeof *cloud);
        int r;

        cloud->check = check;
        cloud->auth_file = auth_file;
        r = sd_event_new(&cloud->event);
        if (r < 0)
                return error_set(err, -r, "cannot set up an event loop: %s", strerror(-r));
        r = session_new(auth_file, scope, &limits, cloud->event, &cloud->session, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(cloud);
        return 0;
}

// Runs the loop until there is nothing to wait for. Each answer has its limit of time.
static void wait_until_over(CloudCheck *cloud)
{
        while (!cloud->is_over && sd_event_run(cloud->event, UINT64_MAX) >= 0)
                ;
}

static void on_login(const SessionAnswer *answer, void *userdata)
{
        CloudCheck *cloud = userdata;

        cloud->login = answer->login;
        cloud->err = answer->err ? *answer->err : ERROR_NONE;
        cloud->is_over = true;
}

static SessionLogin log_in(CloudCheck *cloud, const char *service)
{
        const SessionCall call = {.service = service};

        cloud->is_over = false;
        cloud->login = SESSION_NO_ANSWER;
        (void)error_set(&cloud->err, EIO, "the event loop has failed");
        session_call(cloud->session, &call, on_login, cloud);
        wait_until_over(cloud);
        cloud->logged_in = cloud->login == SESSION_LOGGED_IN;
        return cloud->login;
}

// The words of a failure, without what the auth file keeps secret. The caller frees.
static char *words_of(const CloudCheck *cloud)
{
        _cleanup_redactor_ Redactor *redactor = redactor_new();

        auth_env_redact(session_env(cloud->session), redactor);
        return redactor_text(redactor, cloud->err.text);
}

// ---- what became of it --------------------------------------------------------------------

// Keystone says the same of a wrong password and of a project that is not there.
static bool only_project_is_wrong(CloudCheck *cloud)
{
        _cleanup_cloud_ CloudCheck *other = NULL;

        return cloud_check_new(cloud->check, cloud->auth_file, SESSION_UNSCOPED, &other, NULL) ==
                       0 &&
               log_in(other, NULL) == SESSION_LOGGED_IN;
}

static void tell_refusal(CloudCheck *cloud, const AuthEnv *env)
{
        _cleanup_free_ char *words = words_of(cloud);

        if (auth_env_get(env, "OS_APPLICATION_CREDENTIAL_ID") ||
            auth_env_get(env, "OS_APPLICATION_CREDENTIAL_NAME"))
                check_fail(cloud->check, "openstack login",
                           "%s: id and secret of the application credential, and whether it has "
                           "expired or was deleted ('openstack application credential list')",
                           words);
        else if (only_project_is_wrong(cloud))
                check_fail(cloud->check, "openstack login",
                           "%s: user and password are right, but there is no such project, or the "
                           "user has no role in it; mend OS_PROJECT_NAME or OS_PROJECT_ID, and its "
                           "domain",
                           words);
        else
                check_fail(cloud->check, "openstack login",
                           "%s: OS_PASSWORD, OS_USERNAME and the user's domain", words);
}

static void tell_success(CloudCheck *cloud)
{
        const KeystoneGrant *grant = session_grant(cloud->session);
        const char *user = keystone_user(grant), *project = keystone_project(grant);

        check_ok(cloud->check, "openstack login", "%s accepts the credentials: user %s, project %s",
                 auth_env_get(session_env(cloud->session), "OS_AUTH_URL"), user ? user : "unknown",
                 project ? project : "unknown");
}

// Only Packer might log in: by a way that we do not know, or with a certificate that the template
// tells it not to mind.
static CheckedLogin tell_unknown(CloudCheck *cloud, const AuthEnv *auth)
{
        _cleanup_free_ char *words = words_of(cloud);

        if (!auth_env_get(auth, "OS_AUTH_URL") && !auth_env_get(auth, "OS_CLOUD") &&
            !templates_have(cloud->check, "\"openstack\"", true)) {
                check_warn(cloud->check, "openstack login",
                           "not tried: %s, and no template has an openstack builder", words);
                return LOGIN_FAILS;
        }
        check_warn(cloud->check, "Glance", "not asked for the source images: %s%s", words,
                   cloud->err.code == EKEYREJECTED ? "; set OS_CACERT" : "");
        return LOGIN_UNKNOWN;
}

static CheckedLogin tell_login(CloudCheck *cloud, const AuthEnv *auth)
{
        const AuthEnv *env = session_env(cloud->session);
        _cleanup_free_ char *words = words_of(cloud);

        switch (cloud->login) {
        case SESSION_LOGGED_IN:
                tell_success(cloud);
                return LOGIN_WORKS;
        case SESSION_NO_CREDENTIALS:
                return tell_unknown(cloud, auth);
        case SESSION_NO_ANSWER:
                if (cloud->err.code == EKEYREJECTED)
                        return tell_unknown(cloud, auth);
                check_fail(cloud->check, "openstack login",
                           "%s; check OS_AUTH_URL (%s), and whether this host may go there", words,
                           auth_env_get(env, "OS_AUTH_URL"));
                return LOGIN_FAILS;
        case SESSION_REFUSED:
                tell_refusal(cloud, env);
                return LOGIN_FAILS;
        case SESSION_NO_SERVICE:
                check_fail(cloud->check, "openstack login",
                           "%s accepts the credentials, but %s; check OS_REGION_NAME and "
                           "OS_INTERFACE ('openstack catalog list')",
                           auth_env_get(env, "OS_AUTH_URL"), words);
                return LOGIN_FAILS;
        }
        return LOGIN_FAILS;
}

// ---- which images -------------------------------------------------------------------------

static void add_key(Wanted *wanted, const char *os)
{
        _cleanup_free_ char *shown = str_visible(os, strlen(os), KEY_SHOWN_MAX);
        char *longer;

        wanted->n_keys++;
        if (wanted->n_keys > KEYS_SHOWN)
                return;
        longer = xasprintf("%s%s\"%s\"", wanted->keys ? wanted->keys : "", wanted->keys ? ", " : "",
                           shown);
        free(wanted->keys);
        wanted->keys = longer;
}

static void add_image(const char *os, const char *image_id, void *userdata)
{
        CloudCheck *cloud = userdata;
        Wanted *wanted;

        if (str_starts_with(image_id, SAMPLE_WORDS)) // of which another line warns
                return;
        for (size_t at = 0; at < cloud->n_wanted; at++) {
                if (strcmp(cloud->wanted[at].id, image_id) == 0) {
                        add_key(&cloud->wanted[at], os);
                        return;
                }
        }
        if (cloud->n_wanted == IMAGES_MAX) {
                cloud->n_more++;
                return;
        }
        cloud->wanted = xreallocarray(cloud->wanted, cloud->n_wanted + 1, sizeof *cloud->wanted);
        wanted = &cloud->wanted[cloud->n_wanted++];
        *wanted = (Wanted){.cloud = cloud, .id = xstrdup(image_id)};
        add_key(wanted, os);
}

// ---- the asking ---------------------------------------------------------------------------

static void on_image(GlanceImage *image);

static void ask_for_next(CloudCheck *cloud)
{
        Wanted *wanted;

        if (cloud->n_asked == cloud->n_wanted)
                return;
        wanted = &cloud->wanted[cloud->n_asked++];
        wanted->image = (GlanceImage){.wanted = wanted->id, .done = on_image, .userdata = wanted};
        glance_look_up(cloud->session, &wanted->image);
}

static void on_image(GlanceImage *image)
{
        Wanted *wanted = image->userdata;
        CloudCheck *cloud = wanted->cloud;

        if (image->outcome == GLANCE_NO_ANSWER) {
                cloud->err = image->err;
                cloud->is_over = true;
                return;
        }
        wanted->answered = true;
        cloud->n_answered++;
        cloud->is_over = cloud->n_answered == cloud->n_wanted;
        ask_for_next(cloud);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        CloudCheck *cloud = userdata;

        (void)source;
        (void)usec;
        (void)error_set(&cloud->err, ETIMEDOUT,
                        "Glance is slow: after %d seconds there is no more "
                        "time",
                        IMAGES_SECONDS);
        cloud->is_over = true;
        return 0;
}

static void ask_for_images(CloudCheck *cloud)
{
        sd_event_source *deadline = NULL;
        int r = sd_event_add_time_relative(cloud->event, &deadline, CLOCK_MONOTONIC,
                                           IMAGES_SECONDS * USEC_PER_SECOND, 0, on_deadline, cloud);

        if (r < 0) {
                (void)error_set(&cloud->err, -r, "cannot set a timer: %s", strerror(-r));
                return;
        }
        cloud->is_over = false;
        // A few at a time: what one answer says of Glance may end the asking.
        for (size_t n = 0; n < PARALLEL; n++)
                ask_for_next(cloud);
        wait_until_over(cloud);
        for (size_t at = 0; at < cloud->n_asked; at++)
                glance_forget(cloud->session, &cloud->wanted[at].image);
        (void)sd_event_source_disable_unref(deadline);
}

// ---- what became of them ------------------------------------------------------------------

// What to do about an image that is not active.
static const char *remedy_of(const char *status)
{
        if (strcmp(status, "queued") == 0)
                return "it has no data: upload it, or choose another";
        if (strcmp(status, "saving") == 0 || strcmp(status, "uploading") == 0 ||
            strcmp(status, "importing") == 0)
                return "wait until it is there whole";
        if (strcmp(status, "deactivated") == 0)
                return "reactivate it ('openstack image set --activate'), or choose another";
        return "choose another";
}

// The caller frees; NULL if all is well.
static char *fault_of(const Wanted *wanted)
{
        const GlanceImage *image = &wanted->image;
        bool by_name = !glance_is_id(wanted->id);

        switch (image->outcome) {
        case GLANCE_NO_IMAGE:
                return by_name ? xasprintf("%s is no image id, and no active image is seen that "
                                           "has this name; put in an id of 'openstack image list'",
                                           wanted->id)
                               : xasprintf("there is no image %s, or the project does not see it; "
                                           "put in an id of 'openstack image list', or let its "
                                           "owner share it",
                                           wanted->id);
        case GLANCE_SEVERAL:
                return xasprintf("more than one image has the name %s; put in the id of one",
                                 wanted->id);
        case GLANCE_REFUSED:
                return xasprintf("the project may not see image %s (403); put in an id of "
                                 "'openstack image list'",
                                 wanted->id);
        default:
                break;
        }
        if (strcmp(image->status, "active") != 0)
                return xasprintf("image %s is %s: %s", wanted->id, image->status,
                                 remedy_of(image->status));
        if (by_name && !templates_have(wanted->cloud->check, "source_image_name", false) &&
            !templates_have(wanted->cloud->check, "source_image_filter", false))
                return xasprintf("%s is a name, and the templates' source_image takes an id: put "
                                 "in %s",
                                 wanted->id, image->id);
        return NULL;
}

static size_t tell_faults(const CloudCheck *cloud)
{
        size_t n = 0;

        for (size_t at = 0; at < cloud->n_wanted; at++) {
                const Wanted *wanted = &cloud->wanted[at];
                _cleanup_free_ char *fault = wanted->answered ? fault_of(wanted) : NULL;
                _cleanup_free_ char *more =
                        wanted->n_keys > KEYS_SHOWN
                                ? xasprintf(" and %zu more", wanted->n_keys - KEYS_SHOWN)
                                : NULL;

                if (!fault)
                        continue;
                check_fail(cloud->check, "Glance", "source image of %s%s: %s", wanted->keys,
                           more ? more : "", fault);
                n++;
        }
        return n;
}

static void tell_images(const CloudCheck *cloud)
{
        size_t n_faults = tell_faults(cloud);
        _cleanup_free_ char *words = words_of(cloud);

        if (cloud->n_answered < cloud->n_wanted)
                check_fail(cloud->check, "Glance",
                           "%s; %zu of %zu source images were not looked up", words,
                           cloud->n_wanted - cloud->n_answered, cloud->n_wanted);
        else if (!n_faults)
                check_ok(cloud->check, "Glance", "%zu source image%s there", cloud->n_wanted,
                         cloud->n_wanted == 1 ? " is" : "s are");
        if (cloud->n_more)
                check_warn(cloud->check, "Glance",
                           "not asked for the source images of %zu more os keys: %d are enough for "
                           "a check",
                           cloud->n_more, IMAGES_MAX);
}

static void check_images(CloudCheck *cloud)
{
        size_t n;

        // A map that cannot be used is another line's.
        if (source_images_check(cloud->check->config->build.images_config, add_image, cloud, &n,
                                NULL) < 0 ||
            !cloud->n_wanted)
                return;
        if (!templates_have(cloud->check, "\"openstack\"", true)) {
                check_warn(cloud->check, "Glance",
                           "not asked for the source images: no template has an openstack builder");
                return;
        }
        ask_for_images(cloud);
        tell_images(cloud);
}

// ---- the checks ---------------------------------------------------------------------------

CheckedLogin check_cloud(Check *check, const AuthEnv *auth)
{
        CheckedLogin login;
        Error err = ERROR_NONE;

        if (cloud_check_new(check, check->config->build.auth_file, SESSION_PROJECT, &check->cloud,
                            &err) < 0) {
                check_fail(check, "openstack login", "%s", err.text);
                return LOGIN_UNKNOWN;
        }
        (void)log_in(check->cloud, "image");
        login = tell_login(check->cloud, auth);
        if (login == LOGIN_WORKS)
                check_images(check->cloud);
        return login;
}

void check_nova(Check *check)
{
        const char *auth_file = check->config->aquilon.auth_file;
        _cleanup_cloud_ CloudCheck *own = NULL;
        CloudCheck *cloud = check->cloud;
        _cleanup_free_ char *words = NULL;
        Error err = ERROR_NONE;

        if (!cloud || !cloud->logged_in || strcmp(cloud->auth_file, auth_file) != 0) {
                if (cloud_check_new(check, auth_file, SESSION_PROJECT, &own, &err) < 0) {
                        check_fail(check, "Nova", "%s", err.text);
                        return;
                }
                cloud = own;
        }
        (void)log_in(cloud, "compute");
        words = words_of(cloud);
        if (cloud->login == SESSION_LOGGED_IN)
                check_ok(check, "Nova", "logged in with %s", auth_file);
        else
                check_fail(check, "Nova", "%s", words);
}

void check_cloud_done(Check *check)
{
        if (check->cloud)
                cloud_check_free(check->cloud);
        check->cloud = NULL;
}
