#include "aquilon/broker.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "net/http.h"
#include "net/kerberos.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/strutil.h"

#define ANSWER_MAX_BYTES ((size_t)1024 * 1024)
#define PATH_MAX_BYTES ((size_t)8192)
#define REASON_MAX 300
#define VALUE_NAME_MAX 32

struct Broker {
        const AquilonConfig *config;
        HttpClient *http;
        BrokerDoneFn done;
        void *userdata;
};

// ---- the calls ----------------------------------------------------------------------------

// {name}: a value, percent-encoded; a parameter of the query whose value is not there is left out.
static const struct {
        const char *method, *path, *query;
} calls[N_BROKER_CALLS] = {
        [BROKER_STATUS] = {"GET", "/status/server", ""},
        [BROKER_FIND_MACHINE] = {"GET", "/find/machine", "serial={server}"},
        [BROKER_FIND_HOST] = {"GET", "/find/host", "machine={machine}"},
        [BROKER_SHOW_HOST] = {"GET", "/host/{host}", ""},
        [BROKER_SHOW_MACHINE] = {"GET", "/machine/{machine}", ""},
        [BROKER_DELETE_HOST] = {"DELETE", "/host/{host}", ""},
        [BROKER_DELETE_ADDRESS] = {"DELETE", "/interface_address",
                                   "ip={address}&machine={machine}&interface=" BROKER_INTERFACE},
        [BROKER_DELETE_INTERFACE] = {"POST", "/interface/command/del",
                                     "interface=" BROKER_INTERFACE "&machine={machine}"},
        [BROKER_DELETE_MACHINE] = {"DELETE", "/machine/{machine}", ""},
        [BROKER_ADD_MACHINE] = {"PUT", "/next_machine/{prefix}",
                                "model={model}&serial={server}&vmhost={vmhost}&cpucount={cpus}"
                                "&memory={memory}"},
        [BROKER_ADD_INTERFACE] = {"PUT", "/machine/{machine}/interface/" BROKER_INTERFACE,
                                  "mac={mac}"},
        [BROKER_SET_INTERFACE] = {"POST", "/machine/{machine}/interface/" BROKER_INTERFACE,
                                  "boot&default_route"},
        [BROKER_ADD_HOST] = {"PUT", "/host/{host}",
                             "machine={machine}&ip={address}&archetype={archetype}"
                             "&personality={personality}&osname={os}&osversion={os_version}"
                             "&domain={domain}&sandbox={sandbox}"},
        [BROKER_MAKE] = {"POST", "/host/{host}/command/make", ""},
};

#define VALUE(name)                                                                                \
        {                                                                                          \
                "{" #name "}", offsetof(BrokerValues, name)                                        \
        }
static const struct {
        const char *name;
        size_t offset;
} value_names[] = {VALUE(server), VALUE(machine),    VALUE(host),      VALUE(address),
                   VALUE(mac),    VALUE(prefix),     VALUE(model),     VALUE(vmhost),
                   VALUE(cpus),   VALUE(memory),     VALUE(archetype), VALUE(personality),
                   VALUE(os),     VALUE(os_version), VALUE(domain),    VALUE(sandbox)};

// The value that the text begins with the name of; *ret_len is the name's length.
static const char *value_at(const BrokerValues *values, const char *text, size_t *ret_len)
{
        for (size_t at = 0; at < ELEMENTSOF(value_names); at++) {
                if (!str_starts_with(text, value_names[at].name))
                        continue;
                *ret_len = strlen(value_names[at].name);
                return *(const char *const *)((const char *)values + value_names[at].offset);
        }
        *ret_len = 1;
        return NULL;
}

// Appends one element, its value escaped. False if it has a value that is not there.
static bool expand(const char *text, size_t len, const BrokerValues *values, Buf *out)
{
        size_t plain = strcspn(text, "{"), name_len;
        const char *value;
        _cleanup_free_ char *escaped = NULL;

        if (plain >= len)
                return buf_append(out, text, len) == 0;
        value = value_at(values, text + plain, &name_len);
        if (!value)
                return false;
        escaped = http_escape(value);
        return buf_append(out, text, plain) == 0 && buf_append_str(out, escaped) == 0 &&
               buf_append(out, text + plain + name_len, len - plain - name_len) == 0;
}

char *broker_call_path(BrokerCall call, const BrokerValues *values)
{
        Buf out = BUF_INIT(PATH_MAX_BYTES);
        const char *path = calls[call].path, *separator = "?";

        (void)expand(path, strlen(path), values, &out);
        for (const char *at = calls[call].query; *at;) {
                size_t len = strcspn(at, "&"), before = out.len;

                if (buf_append_str(&out, separator) == 0 && expand(at, len, values, &out)) {
                        separator = "&";
                } else {
                        out.len = before;
                        out.data[before] = '\0';
                }
                at += len + (at[len] == '&');
        }
        return buf_take(&out, NULL);
}

const char *broker_call_method(BrokerCall call)
{
        return calls[call].method;
}

// ---- what it answers ----------------------------------------------------------------------

static bool is_word_byte(char byte)
{
        return isalnum((unsigned char)byte) || byte == '.' || byte == '-' || byte == ':';
}

bool broker_text_has(const char *text, const char *word)
{
        size_t len = strlen(word);

        for (const char *at = text; len && (at = strstr(at, word)); at++) {
                // "eth0:" and "10.0.0.1." end a word, too.
                if ((at == text || !is_word_byte(at[-1])) && !isalnum((unsigned char)at[len]) &&
                    !(at[len] == '.' && isalnum((unsigned char)at[len + 1])) && at[len] != '-')
                        return true;
        }
        return false;
}

char *broker_text_machine(const char *text)
{
        static const char label[] = "Machine:";

        for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
                line += strspn(line, " \t");
                if (str_starts_with(line, label)) {
                        line += sizeof label - 1;
                        line += strspn(line, " \t");
                        return xstrndup(line, strcspn(line, " \t\r\n"));
                }
        }
        return NULL;
}

static void trim(char *text)
{
        size_t start = strspn(text, " \t\r\n"), len = strlen(text + start);

        while (len > 0 && strchr(" \t\r\n", text[start + len - 1]))
                len--;
        memmove(text, text + start, len);
        text[len] = '\0';
}

static int login_error(const AquilonConfig *config, long status, Error *err)
{
        static const char *const advice[] = {
                [AQUILON_AUTH_NEGOTIATE] = "its ticket is valid, so check what the broker allows",
                [AQUILON_AUTH_BASIC] = "check AQ_USER and AQ_PW_FILE",
                [AQUILON_AUTH_BEARER] = "check AQ_TOKEN_FILE",
                [AQUILON_AUTH_NONE] = "set AQ_AUTH"};

        if (config->auth == AQUILON_AUTH_NEGOTIATE && kerberos_check(err) < 0)
                return error_prefix(err, "the broker refuses the login (%ld)", status);
        return error_set(err, EACCES, "the broker refuses the login (%ld); %s", status,
                         advice[config->auth]);
}

static int status_error(long status, const char *text, Error *err)
{
        _cleanup_free_ char *line = xstrndup(text, strcspn(text, "\r\n"));
        _cleanup_free_ char *shown = str_visible(line, strlen(line), REASON_MAX);

        return error_set(err, EREMOTEIO, "the broker answered %ld%s%s", status, *shown ? ": " : "",
                         shown);
}

static BrokerOutcome judge(const Broker *broker, long status, const char *text, Error *err)
{
        if (status == 200 || status == 201 || status == 204)
                return BROKER_OK;
        if (status == 401 || status == 403) {
                (void)login_error(broker->config, status, err);
                return BROKER_TRY_LATER;
        }
        (void)status_error(status, text, err);
        return status == 400 || status == 404 ? BROKER_REFUSED : BROKER_TRY_LATER;
}

static void on_done(HttpClient *http, const HttpResponse *response, void *userdata)
{
        Broker *broker = userdata;
        Error err = ERROR_NONE;
        BrokerAnswer answer = {.outcome = BROKER_TRY_LATER, .userdata = response->userdata};
        _cleanup_free_ char *text = xstrdup(buf_str(response->body));

        (void)http;
        trim(text);
        answer.text = text;
        if (response->error)
                err = *response->error;
        else
                answer.outcome = judge(broker, response->status, text, &err);
        answer.err = answer.outcome == BROKER_OK ? NULL : &err;
        broker->done(&answer, broker->userdata);
}

// ---- calling ------------------------------------------------------------------------------

static HttpAuth auth_of(const AquilonConfig *config)
{
        switch (config->auth) {
        case AQUILON_AUTH_NEGOTIATE:
                return (HttpAuth){.kind = HTTP_AUTH_NEGOTIATE};
        case AQUILON_AUTH_BASIC:
                return (HttpAuth){HTTP_AUTH_BASIC, config->user, config->password};
        case AQUILON_AUTH_BEARER:
                return (HttpAuth){.kind = HTTP_AUTH_BEARER, .secret = config->token};
        case AQUILON_AUTH_NONE:
                break;
        }
        return (HttpAuth){.kind = HTTP_AUTH_NONE};
}

int broker_call(Broker *broker, BrokerCall call, const BrokerValues *values, void *userdata,
                Error *err)
{
        _cleanup_free_ char *path = broker_call_path(call, values);
        _cleanup_free_ char *url = xasprintf("%s%s", broker->config->url, path);
        const HttpCall http_call = {.method = calls[call].method,
                                    .auth = auth_of(broker->config),
                                    .ca_file = broker->config->tls_ca,
                                    // Each gives another machine.
                                    .once = call == BROKER_ADD_MACHINE};
        const HttpRequest request = {.url = url,
                                     .max_bytes = ANSWER_MAX_BYTES,
                                     .call = &http_call,
                                     .userdata = userdata};

        return http_client_add(broker->http, &request, err);
}

int broker_new(const AquilonConfig *config, sd_event *event, BrokerDoneFn done, void *userdata,
               Broker **ret, Error *err)
{
        const HttpLimits limits = {.parallel = config->parallel,
                                   .timeout_seconds = config->http_timeout_seconds};
        _cleanup_(broker_free_p) Broker *broker = xcalloc(1, sizeof *broker);
        int r;

        *broker = (Broker){.config = config, .done = done, .userdata = userdata};
        if (config->auth == AQUILON_AUTH_NEGOTIATE)
                kerberos_use(config->keytab, config->ccache);
        r = http_client_new(&limits, on_done, broker, &broker->http, err);
        if (r == 0)
                r = http_client_attach(broker->http, event, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(broker);
        return 0;
}

void broker_free(Broker *broker)
{
        if (broker->http)
                http_client_free(broker->http);
        free(broker);
}
