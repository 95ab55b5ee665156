#include "builder/packer_output.h"

#include <string.h>

#include "util/alloc.h"
#include "util/strutil.h"

#define ERROR_TEXT_LIMIT 400
#define ARTIFACTS_MAX 16

// The first words of a message, behind "==> builder: ", and the phase they open. A prefix may be
// said again inside its phase; a message that stands here for a phase already left reopens it.
static const struct {
        const char *prefix, *phase;
} phases[] = {
        {"Loading flavor", "launch"},
        {"Launching server", "launch"},
        {"Waiting for server to become ready", "boot"},
        {"Using ssh communicator to connect", "connect"},
        {"Using SSH communicator to connect", "connect"},
        {"Using winrm communicator to connect", "connect"},
        {"Connected to SSH!", "provision"},
        {"Connected to WinRM!", "provision"},
        {"Running local shell script", "provision"},
        {"Provisioning with", "provision"},
        {"Stopping server", "stop"},
        {"Creating the image", "save"},
        {"Waiting for image", "save"},
        {"Terminating the source server", "clean up"},
        {"Running post-processor", "post-process"},
};

// Texts in which Packer says what went wrong with the whole run, before or instead of a build.
static const char *const failure_prefixes[] = {
        "Error: ",
        "Failed to parse template: ",
        "Failed to initialize core: ",
        "Error initializing core: ",
        "Template validation failed",
};

static void remember_error(PackerOutput *output, const char *text)
{
        if (output->error || !*text)
                return;
        output->error = str_visible(text, strlen(text), ERROR_TEXT_LIMIT);
}

static bool ends_with_colon(const char *text)
{
        return *text && text[strlen(text) - 1] == ':';
}

// "Error: Failed to prepare build" and "1 error(s) occurred:" are followed by "* reason" lines,
// which are what one wants.
static void add_error_detail(PackerOutput *output, const char *separator, const char *text)
{
        _cleanup_free_ char *visible = str_visible(text, strlen(text), ERROR_TEXT_LIMIT);
        char *longer;

        if (!output->error || strlen(output->error) + strlen(visible) > ERROR_TEXT_LIMIT)
                return;
        longer = xasprintf("%s%s%s", output->error, separator, visible);
        free(output->error);
        output->error = longer;
}

// True if one of the ids in `artifacts` is this text.
static bool has_artifact(const char *artifacts, const char *text)
{
        size_t len = strlen(text);

        for (const char *at = artifacts; (at = strstr(at, text)); at++) {
                if ((at == artifacts || at[-1] == ' ') && (at[len] == '\0' || at[len] == ' '))
                        return true;
        }
        return false;
}

static void add_artifact(PackerOutput *output, const char *text)
{
        static const char created[] = "An image was created: ";
        _cleanup_free_ char *id = NULL;
        char *both;
        size_t spaces = 0;

        if (str_starts_with(text, created))
                text += sizeof created - 1;
        if (!*text)
                return; // what a post-processor adds
        id = str_visible(text, strlen(text), ERROR_TEXT_LIMIT);
        if (!output->artifact) {
                output->artifact = TAKE_PTR(id);
                return;
        }
        for (const char *at = output->artifact; *at; at++)
                spaces += *at == ' ';
        // A kept post-processor repeats the id.
        if (has_artifact(output->artifact, id) || spaces >= ARTIFACTS_MAX)
                return;
        both = xasprintf("%s %s", output->artifact, id);
        free(output->artifact);
        output->artifact = both;
}

static void enter_phase(PackerOutput *output, const char *message, PackerPhaseFn on_phase,
                        void *userdata)
{
        for (size_t at = 0; at < ELEMENTSOF(phases); at++) {
                if (!str_starts_with(message, phases[at].prefix))
                        continue;
                if (output->phase != phases[at].phase) {
                        output->phase = phases[at].phase;
                        on_phase(output->phase, userdata);
                }
                return;
        }
}

// The message behind "==> name: " or "    name: ", or NULL.
static const char *builder_message(const char *line)
{
        const char *message;

        if (!str_starts_with(line, "==> ") && !str_starts_with(line, "    "))
                return NULL;
        message = strstr(line + 4, ": ");
        return message ? message + 2 : NULL;
}

static void read_build_line(PackerOutput *output, const char *line)
{
        // "Build 'openstack' errored after 3 seconds: reason"; before 1.6 without the time.
        const char *errored = strstr(line, "' errored"), *colon;

        if (!str_starts_with(line, "Build '") || !errored)
                return;
        colon = strstr(errored, ": ");
        output->in_error = !output->error && ends_with_colon(line); // one of a post-processor
        remember_error(output, colon ? colon + 2 : errored + 2);
}

static void read_failure(PackerOutput *output, const char *line)
{
        for (size_t at = 0; at < ELEMENTSOF(failure_prefixes); at++) {
                if (!str_starts_with(line, failure_prefixes[at]))
                        continue;
                remember_error(output,
                               strcmp(failure_prefixes[at], "Error: ") == 0 ? line + 7 : line);
                output->in_error = true;
                output->in_detail = false;
                return;
        }
        if (str_starts_with(line, "==> "))
                output->in_error = output->in_detail = false; // what comes now repeats it
        if (output->in_error && output->error && str_starts_with(line, "* ")) {
                output->in_detail = true;
                add_error_detail(output, ends_with_colon(output->error) ? " " : ": ", line + 2);
        } else if (output->in_detail && *line) {
                add_error_detail(output, " ", line); // wrapped
        } else {
                output->in_detail = false;
        }
}

static void read_line(PackerOutput *output, const char *line, PackerPhaseFn on_phase,
                      void *userdata)
{
        static const char image[] = "Image: ", server[] = "Server ID: ";
        const char *message = builder_message(line);

        if (output->in_artifacts && str_starts_with(line, "--> ")) {
                const char *colon = strstr(line, ": ");

                if (colon)
                        add_artifact(output, colon + 2);
                return;
        }
        if (message) {
                enter_phase(output, message, on_phase, userdata);
                if (str_starts_with(message, server) && !output->server)
                        output->server = str_visible(message + sizeof server - 1,
                                                     strlen(message + sizeof server - 1), 64);
                if (str_starts_with(message, image) && !output->saving_image)
                        output->saving_image = str_visible(message + sizeof image - 1,
                                                           strlen(message + sizeof image - 1), 64);
                return;
        }
        if (strstr(line, "The artifacts of successful builds are:"))
                output->in_artifacts = true;
        else if (str_starts_with(line, "Cleanly cancelled builds"))
                output->cancelled = true;
        read_build_line(output, line);
        read_failure(output, line);
}

static void end_line(PackerOutput *output, PackerPhaseFn on_phase, void *userdata)
{
        size_t len = output->line.len;

        if (len && output->line.data[len - 1] == '\r')
                output->line.data[len - 1] = '\0';
        read_line(output, buf_str(&output->line), on_phase, userdata);
        buf_clear(&output->line);
        output->line_too_long = false;
}

void packer_output_feed(PackerOutput *output, const char *data, size_t len, PackerPhaseFn on_phase,
                        void *userdata)
{
        while (len) {
                const char *newline = memchr(data, '\n', len);
                size_t part = newline ? (size_t)(newline - data) : len;
                size_t room = output->line.max - output->line.len;

                if (!output->line_too_long) {
                        int r = buf_append(&output->line, data, MIN(part, room));

                        output->line_too_long = r < 0 || part > room;
                }
                if (newline) {
                        end_line(output, on_phase, userdata);
                        part++;
                }
                data += part;
                len -= part;
        }
}

void packer_output_end(PackerOutput *output, PackerPhaseFn on_phase, void *userdata)
{
        if (output->line.len)
                end_line(output, on_phase, userdata);
}

void packer_output_done(PackerOutput *output)
{
        buf_done(&output->line);
        free(output->artifact);
        free(output->saving_image);
        free(output->server);
        free(output->error);
        *output = PACKER_OUTPUT_INIT;
}
