// Takes secrets out of a stream of text, whatever pieces the stream comes in.
//
// Packer masks what it was told is sensitive; values of the auth file, and their JSON-escaped
// forms, still reach its output (hashicorp/packer #12918). So all output passes through here.
#pragma once

#include <stddef.h>

#include "core/auth_file.h"
#include "util/buf.h"

#define REDACT_MIN_SECRET 4    // shorter ones would blank out ordinary text
#define REDACT_MAX_SECRET 8192 // of one line of a secret
#define REDACT_MARK "<redacted>"

typedef struct Redactor Redactor;

Redactor *redactor_new(void);
void redactor_free(Redactor *redactor);
DEFINE_CLEANUP(Redactor, redactor_free)
#define _cleanup_redactor_ _cleanup_(redactor_free_p)

// Each line of the secret is hidden, raw, JSON-escaped, JSON-escaped as Go does it (\u003c …) and
// percent-encoded, in the spellings that are in use. Lines out of the limits above are ignored.
void redactor_add(Redactor *redactor, const char *secret);

// Appends to out the part of held + data in which no secret can have begun without having ended,
// redacted; the rest stays in `held` (at most the longest secret) for the next call. With
// `end` nothing stays. The result may be longer than the input by the mark; -EFBIG from out's max.
int redactor_feed(const Redactor *redactor, Buf *held, const char *data, size_t len, bool end,
                  Buf *out) must_check;

// A whole text at once; the caller frees.
char *redactor_text(const Redactor *redactor, const char *text);

// Hides the values whose names speak of a secret.
void auth_env_redact(const AuthEnv *env, Redactor *redactor);
