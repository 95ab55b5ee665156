// CDP notifications: a UDP datagram of a type, NUL, and decimal Unix time, such as
// "cdb\0" "1486571445". The broker sends "cdb" (the profile set changed) to subscribed servers and
// "ccm" (your profile changed) to hosts; nothing in it says which profile.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CDP_PACKET_MAX 64 // bytes; no valid packet is longer

typedef struct CdpPacket {
        const char *type; // "cdb" or "ccm", static
        int64_t time;     // seconds since the epoch; nobody checks a clock by it
} CdpPacket;

// True for exactly (cdb|ccm)\0[0-9]+, with one newline behind it at most, and a time that fits.
bool cdp_parse(const void *data, size_t len, CdpPacket *ret);
