// A build that ended without a result is queued once more, as a build of its own: the history
// shows each attempt with its log and its end.
#include <errno.h>

#include "builder/worker_internal.h"
#include "util/alloc.h"
#include "util/clock.h"

static void copy_request(const Build *from, Build *to)
{
        to->state = BUILD_QUEUED;
        to->image = xstrdup(from->image);
        to->template = xstrdup(from->template);
        to->personality = xstrdup(from->personality);
        to->os = xstrdup(from->os);
        to->source_image = xstrdup(from->source_image);
        to->entry = xstrdup(from->entry);
        to->content_id = xstrdup(from->content_id);
        to->message_id = xstrdup(from->message_id);
        to->changes = xstrdup(from->changes);
}

int worker_build_again(Worker *worker, Build *build, const Again *again, Job **ret, Error *err)
{
        _cleanup_free_ char *body = NULL;
        int64_t now = clock_wall_ms();
        size_t body_len;
        Job *job;
        int r = store_build_body(worker->store, build->id, &body, &body_len, err);

        if (r < 0)
                return r;
        if (r == STORE_NOT_FOUND)
                return error_set(err, ENOENT, "its message is no longer in the journal");
        job = job_new(worker);
        copy_request(build, &job->build);
        job_take_lease(job);
        job->build.build_id = message_new_id();
        job->build.attempt = build->attempt + (again->spends_attempt ? 1 : 0);
        job->build.queued_ms = now;
        job->build.not_before_ms = again->delay_ms ? now + again->delay_ms : 0;
        // In this order: the last build that needs the message's body takes it along.
        r = store_build_insert(worker->store, &job->build, body, body_len, err);
        if (r == 0)
                r = store_build_transition(worker->store, build, again->event, again->reason, now,
                                           err);
        if (r < 0) {
                job_free(job);
                return r;
        }
        *ret = job;
        return 0;
}
