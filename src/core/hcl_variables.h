// Which variables a Packer HCL2 file declares.
//
// Only as much of HCL's lexical grammar as it takes to find the top-level blocks: comments, quoted
// templates with nested interpolation, heredocs, brackets. Packer judges the rest.
#pragma once

#include <stddef.h>

// The names in the top-level blocks `variable "name" {` and in `variables {`-blocks the names of
// its attributes; strv, to be freed with strv_free. At most HCL_VARIABLES_MAX of them.
#define HCL_VARIABLES_MAX 256

char **hcl_declared_variables(const char *text, size_t len);
