// What the files of the locks share: image_locks.c (the locks of images) and image_locks_company.c
// (who else is there, which tells if they are needed).
#pragma once

#include "builder/image_locks.h"

#define LOCK_ALONE ".alone"
#define LOCK_TOGETHER ".together"
#define LOCK_AGAIN_PARTS 10 // nothing is asked again later than after such a part of the lease
#define LOCK_RENEW_PARTS 3  // what is held is renewed when such a part of it is over

typedef struct ImageLock {
        struct ImageLock *next;
        char *target;
        char *suffix;
        bool ours;      // as far as we know: a broken connection keeps it
        bool asked;     // not answered
        bool leaving;   // given back, not answered
        bool wanted;    // else it is given back as soon as it can be
        bool waited;    // on_answer is to be called
        bool told;      // that another builds the same
        int64_t ask_ms; // monotonic: another's is not asked for before
} ImageLock;

// Who else is there. In the order in which it is found out; what is asked is in brackets.
typedef enum Company {
        COMPANY_UNKNOWN,  // no connection
        COMPANY_LOCKING,  // [ALONE in our name]: are we the only one who wants to be alone?
        COMPANY_CHECKING, // [TOGETHER in our name]: is nobody together? It is given back at once
        COMPANY_NONE,     // we have ALONE
        COMPANY_JOINING,  // [TOGETHER in everybody's name]
        COMPANY_WAITING,  // [ALONE in our name]: is nobody alone? It is given back at once
        COMPANY_ARRIVING, // somebody is there: we take the locks of what we build, …
        COMPANY_ADMITTED, // … [TOGETHER in everybody's name], and give ALONE back
        COMPANY_MANY,     // we have TOGETHER
        COMPANY_IGNORED,  // the broker refuses locks: builds go on without
} Company;

struct ImageLocks {
        char *worker_id;
        int64_t lease_ms;
        ImageLocksCallbacks callbacks;
        void *userdata;
        Consumer *consumer;
        Company company;
        unsigned n_looks; // in vain
        bool told_many, told_refused;
        ImageLock *first;
        int64_t renew_ms; // monotonic: all that is ours
        int64_t look_ms;  // monotonic: the question of `company` once more; 0: it is under way
        sd_event_source *timer;
};

// ---- image_locks.c -------------------------------------------------------------------------

// Sets the timer to what is due first.
void image_locks_arm(ImageLocks *locks);
// A lock with this suffix, which is not an image's, for `holder`.
void image_locks_ask_broker(const ImageLocks *locks, const char *suffix, const char *holder,
                            bool hear_knocks);
// Those of all that is built here.
void image_locks_ask_for_wanted(ImageLocks *locks);
// For when no answers come to what was asked.
void image_locks_forget_asked(ImageLocks *locks);
// Whoever waits for a lock may go on without.
void image_locks_answer_waiting(ImageLocks *locks);

// ---- image_locks_company.c -----------------------------------------------------------------

// The answers to the locks LOCK_ALONE and LOCK_TOGETHER, and to one of an image.
void company_on_alone(ImageLocks *locks, bool ours);
void company_on_together(ImageLocks *locks, bool ours);
void company_on_image(ImageLocks *locks);
// The broker refuses a lock, for a reason other than that it is another's.
void company_on_refused(ImageLocks *locks, const Error *why);

// Begins to find out, with a new connection.
void company_find_out(ImageLocks *locks);
// Asks once more when it is time to.
void company_look_if_due(ImageLocks *locks, int64_t now);
void company_renew(ImageLocks *locks);
// Nothing here is built any more.
void company_give_up(ImageLocks *locks);

// No lock is needed: there is nobody else, or the broker has none.
bool company_needs_none(const ImageLocks *locks);
