#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scan/cdp.h"
#include "util/macro.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char again[CDP_PACKET_MAX + 1];
        CdpPacket packet;
        size_t zeros = 0;
        int len;

        if (!cdp_parse(data, size, &packet))
                return 0;
        // What was understood, written anew, is the packet but for leading zeros and a newline.
        if (packet.time < 0)
                abort();
        while (size > 5 + zeros && data[4 + zeros] == '0' && data[5 + zeros] != '\n')
                zeros++;
        len = snprintf(again, sizeof again, "%s%c%lld", packet.type, '\0', (long long)packet.time);
        if (len < 0 || memcmp(data, packet.type, 4) != 0 ||
            memcmp(data + 4 + zeros, again + 4, (size_t)len - 4) != 0)
                abort();
        return 0;
}
