#include "scan/cdp.h"

#include <string.h>

#include "util/macro.h"

#define TYPE_LEN 3

bool cdp_parse(const void *data, size_t len, CdpPacket *ret)
{
        static const char types[][TYPE_LEN + 1] = {"cdb", "ccm"};
        const char *at = data, *end = at + len;
        CdpPacket packet = {.type = NULL};

        if (len > CDP_PACKET_MAX || len <= sizeof types[0])
                return false;
        for (size_t i = 0; i < ELEMENTSOF(types); i++) {
                if (memcmp(at, types[i], sizeof types[i]) == 0) // with its NUL
                        packet.type = types[i];
        }
        if (!packet.type)
                return false;
        at += sizeof types[0];
        if (end[-1] == '\n')
                end--;
        if (at == end)
                return false;
        for (; at < end; at++) {
                if (*at < '0' || *at > '9')
                        return false;
                if (__builtin_mul_overflow(packet.time, INT64_C(10), &packet.time) ||
                    __builtin_add_overflow(packet.time, (int64_t)(*at - '0'), &packet.time))
                        return false;
        }
        *ret = packet;
        return true;
}
