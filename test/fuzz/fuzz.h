// What every fuzz target defines (https://llvm.org/docs/LibFuzzer.html).
#pragma once

#include <stddef.h>
#include <stdint.h>

// Returns 0. Must take any bytes, keep nothing between calls, and neither read nor write files.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
