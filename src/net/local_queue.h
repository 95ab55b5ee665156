// The queue as a table of builds.db. A publisher that has committed touches STATE_DIR/queue.wake,
// which the consumer watches, so that nobody polls (but for a slow look in case a touch got lost).
#pragma once

#define LOCAL_QUEUE_WAKE_FILE "queue.wake"

// Opens the file for writing (it is made if absent) and closes it, which is what the consumer's
// watch is for. A failure costs time only: the slow look finds the messages.
void local_queue_wake(const char *path);
