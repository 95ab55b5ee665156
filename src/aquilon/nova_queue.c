#include "aquilon/nova_queue.h"

Config nova_queue_config(const Config *config)
{
        const AquilonConfig *aquilon = &config->aquilon;
        Config nova = *config;

        nova.global.queue = aquilon->queue;
        nova.global.transport = TRANSPORT_AMQP;
        nova.global.rabbit_host = aquilon->rabbit_host;
        nova.global.rabbit_port = aquilon->rabbit_port;
        nova.global.rabbit_user = aquilon->rabbit_user;
        nova.global.rabbit_pw = aquilon->rabbit_pw;
        nova.global.rabbit_vhost = aquilon->rabbit_vhost;
        nova.global.rabbit_tls = aquilon->rabbit_tls;
        nova.global.rabbit_tls_ca = aquilon->rabbit_tls_ca;
        return nova;
}
