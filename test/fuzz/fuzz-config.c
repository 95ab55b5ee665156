#include "fuzz.h"

#include <stdlib.h>

#include "core/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_config_ Config *config = NULL;
        Error err = ERROR_NONE;
        int r = config_parse("/nowhere/fuzz.ini", (const char *)data, size, &config, &err);

        // What the header promises.
        if (r < 0) {
                if (err.code != -r || err.text[0] == '\0' || config)
                        abort();
                return 0;
        }
        if (!config->global.queue || !config->global.state_dir || !config->scan.cache_dir ||
            !config->scan.ignore_paths || !config->build.build_file_dir ||
            config->build.slots == 0 || config->global.rabbit_port == 0)
                abort();
        if ((config->global.transport == TRANSPORT_AMQP) != (config->global.rabbit_host != NULL))
                abort();
        if (config_require_scan(config, &err) < 0 && !config->scan.profile_info_url &&
            err.text[0] == '\0')
                abort();
        if (config_require_build(config, &err) == 0 && !config->build.images_config)
                abort();
        return 0;
}
