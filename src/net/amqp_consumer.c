#include <errno.h>

#include "net/queue_transport.h"

int consumer_new_amqp(const Config *config, sd_event *event, unsigned prefetch,
                      const Consumer *base, Consumer **ret, Error *err)
{
        (void)config;
        (void)event;
        (void)prefetch;
        (void)base;
        (void)ret;
        return error_set(err, ENOSYS, "consuming from RabbitMQ is not there yet");
}
