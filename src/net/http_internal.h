// What the files of the HTTP client share.
#pragma once

#include "net/http.h"

#define HTTP_URL_MAX ((size_t)4096)

// The URL as messages show it: without user name and password. The caller frees.
char *http_visible_url(const char *url);

bool http_is_file_url(const char *url);

// Reads a file:// URL. HTTP_FILE_SAME when `etag` is that of the file as it is now; *ret_etag (the
// caller frees) identifies this state of the file by time, size and inode.
#define HTTP_FILE_SAME 1
int http_file_get(const char *url, const char *etag, Buf *body, char **ret_etag,
                  Error *err) must_check;
