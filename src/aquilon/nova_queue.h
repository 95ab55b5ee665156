// Where Nova's notifications are.
#pragma once

#include "core/config.h"

// The configuration with Nova's RabbitMQ and queue in the place of the build queue's, for what
// speaks to a queue. Borrows all from `config`; not to be freed.
Config nova_queue_config(const Config *config);
