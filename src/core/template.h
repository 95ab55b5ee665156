// A site's Packer template, made into the build file of one build.
//
// JSON templates hold $NAME, $IMAGE, $METADATA (upstream's), $PERSONALITY, $OS, $ARCHETYPE,
// $DOMAIN, $SANDBOX, $HOSTNAME, $BUILD_ID, also as ${NAME}. HCL2 templates (*.pkr.hcl) are used as
// they are and get the same values, lower case, as a var-file of those variables that they declare.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/identity.h"
#include "util/error.h"

typedef enum TemplateKind { TEMPLATE_JSON, TEMPLATE_HCL2 } TemplateKind;

typedef struct TemplateValues {
        const char *name;  // image name
        const char *image; // source image ID
        const char *os;    // key of the source-image map
        const char *build_id;
        const Identity *identity;
} TemplateValues;

typedef struct RenderedTemplate {
        TemplateKind kind;
        char *text; // JSON: the build file. HCL2: the template, unchanged
        size_t text_len;
        char *vars; // HCL2: the var-file, JSON. NULL for JSON templates
        size_t vars_len;
} RenderedTemplate;

// Reads and renders a template; it may have 1 MiB, the result 4 MiB. Values are escaped for the
// JSON string they land in, and what has been put in is not expanded again; a value that the
// profile does not have is "". $METADATA may stand inside an object ({ $METADATA }) or as a value
// of its own. Of two members with one name the later counts.
//
// -EBADMSG: a value with "{{", control characters, or over 255 bytes as metadata; or a token in
// text that a shell reads (members inline, execute_command, … and user_data) or in Packer's own
// {{ }} whose value is more than one plain word: templates pass such values by environment_vars.
// -EINVAL: the template is not JSON (names template, line and column), or has $METADATA in a text.
int template_render(const char *path, const TemplateValues *values, RenderedTemplate *ret,
                    Error *err) must_check;
void rendered_template_done(RenderedTemplate *rendered);

// "managed" for "/etc/packer-utils/templates/managed.json" or "managed.pkr.hcl". Caller frees.
char *template_name(const char *path);
