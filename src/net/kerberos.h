// The Kerberos credentials that HTTP_AUTH_NEGOTIATE uses: a ticket cache that somebody else fills
// (kinit, k5start), or a keytab, from which the library gets and renews tickets by itself.
#pragma once

#include "util/error.h"

// Settings of the whole process, for the Kerberos library reads its environment; before its first
// use. NULL leaves the system's. With a keytab and no cache the tickets stay in memory.
void kerberos_use(const char *keytab, const char *cache);

// 0 when there are credentials that have not expired. Otherwise words that say which are missing or
// when they expired, and what to do. May ask the KDC when there is a keytab.
int kerberos_check(Error *err) must_check;
