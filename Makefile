# The commands of the README, each a thin layer over meson. build/ is yours; every check has a build
# folder of its own, so that none disturbs another.

BUILD ?= build
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(patsubst test/fuzz/fuzz-%.c,%,$(wildcard test/fuzz/fuzz-*.c))
# For the user's compiler flags, CC, CFLAGS and LDFLAGS, see meson's manual: it reads them when a
# folder is set up.
# With them gcc warns of what cannot happen; the ordinary build has the true warnings.
SANITIZE = -Db_sanitize=address,undefined -Db_lundef=false -Dwerror=false
SOURCES = $(shell git ls-files '*.c' '*.h')

export PYTHONDONTWRITEBYTECODE = 1

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	scripts/install-deps --check build
	meson setup $(BUILD) --prefix=$(PREFIX)

install: all
	meson install -C $(BUILD) --no-rebuild

uninstall:
	ninja -C $(BUILD) uninstall

clean:
	rm -rf build build-*

# Installs what is missing, builds with warnings as errors, runs the tests; the last line is
# "N passed, N failed".
check:
	scripts/install-deps build test
	scripts/build build-check
	scripts/run-tests build-check

# The main job on a real OpenStack, which it starts and stops again; also when make is told to end,
# hence no shell between.
check-cloud:
	scripts/install-deps build test
	scripts/build build-check
	env PACKUILON_BIN_DIR=build-check test/cloud/cloud check

# The main job on sample profiles, with the real Packer and the local queue.
demo:
	scripts/install-deps build test
	$(MAKE) all
	scripts/demo $(BUILD)

# Against upstream's way of working, and against the limit.
bench:
	scripts/install-deps build test bench
	$(MAKE) all
	ninja -C $(BUILD) bench-tools
	PACKUILON_BIN_DIR=$(BUILD) bench/run

# Random changes, kills and restarts for SOAK_SECONDS, then an accounting. SOAK_SEED repeats one.
soak:
	scripts/install-deps build test
	$(MAKE) all
	PACKUILON_BIN_DIR=$(BUILD) test/soak/soak

format:
	clang-format -i $(SOURCES)

lint:
	scripts/install-deps build ci
	CC=clang scripts/build build-clang
	clang-format --dry-run --Werror $(SOURCES)
	scripts/check-layers
	scripts/check-calls
	scripts/check-tidy build-clang

# The tests with AddressSanitizer and UndefinedBehaviorSanitizer.
asan:
	scripts/install-deps build test ci
	scripts/build build-asan $(SANITIZE)
	PACKUILON_TEST_SLOWNESS=3 scripts/run-tests build-asan

# The unit tests under valgrind.
valgrind:
	scripts/install-deps build test ci
	scripts/build build-check
	scripts/check-valgrind build-check

# Branches of src/ that the tests take; fails below test/coverage-floor, which only rises.
coverage:
	scripts/install-deps build test ci
	scripts/build build-coverage -Db_coverage=true -Dwerror=false
	scripts/run-tests build-coverage
	scripts/check-coverage build-coverage

# Runs each fuzzer for FUZZ_SECONDS; a finding stays in build-fuzz/. FUZZ_TARGETS chooses.
fuzz:
	scripts/install-deps build ci
	CC=clang scripts/build build-fuzz -Dfuzz=true $(SANITIZE)
	for target in $(FUZZ_TARGETS); do \
		scripts/fuzz build-fuzz $$target $(FUZZ_SECONDS) || exit 1; \
	done

.PHONY: all install uninstall clean check check-cloud demo bench soak format lint asan valgrind coverage fuzz
