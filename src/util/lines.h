// Lines from a descriptor, each with a limit.
#pragma once

#include "util/buf.h"

// The line's newline is gone; the text may be changed. Not 0: no more are wanted, ever.
typedef int (*LineFn)(char *line, void *userdata);

#define LINES_END 1

// Reads once (a descriptor that has nothing blocks, unless it is said not to) and passes on the
// lines that are complete; the rest stays in `held`, whose maximum is that of a line and its
// newline. LINES_END at the end of the stream; -EFBIG for a line that is too long; otherwise what
// read(2) or the function said.
int lines_read(int fd, Buf *held, LineFn take, void *userdata) must_check;
