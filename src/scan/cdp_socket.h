// The UDP socket of CDP_LISTEN, and the list of senders of CDP_ALLOW.
#pragma once

#include <netinet/in.h>
#include <stdbool.h>

#include "scan/cdp.h"
#include "util/error.h"

#define CDP_SENDER_SIZE INET6_ADDRSTRLEN

// Binds "ADDRESS:PORT", "[ADDRESS]:PORT" or "*:PORT"; non-blocking. *ret_port is the real port.
int cdp_socket_open(const char *address, int *ret_fd, unsigned *ret_port, Error *err) must_check;

// Addresses in one form: IPv4 as ::ffff:a.b.c.d.
typedef struct CdpSenders {
        struct in6_addr *addresses;
        size_t n; // 0: anybody
} CdpSenders;

int cdp_senders_init(CdpSenders *senders, char *const *addresses, Error *err) must_check;
void cdp_senders_done(CdpSenders *senders);

typedef enum CdpReceived {
        CDP_NOTHING, // the socket is empty
        CDP_ACCEPTED,
        CDP_MALFORMED,
        CDP_NOT_ALLOWED,
} CdpReceived;

// Takes one datagram; `sender` is filled unless there was none.
CdpReceived cdp_socket_receive(int fd, const CdpSenders *allowed, CdpPacket *ret_packet,
                               char sender[CDP_SENDER_SIZE]);
