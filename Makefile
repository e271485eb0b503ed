# Two commands do it all on a fresh Debian machine: `make demo` and `make test`.
# Every target works as root or through sudo.

PROFILE ?= lab
FUZZ_SECONDS ?= 60
# Where properties begin to look. One place for `make test`, so that a run can be repeated; `make soak` looks elsewhere each time.
SEED ?= 1
ROUNDS ?= 50
WEFT := $(or $(CARGO_TARGET_DIR),target)/$(PROFILE)/weft

.PHONY: help demo test bench check fuzz soak setup setup-bench build clean

help: ## What can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## Install what building and testing need (apt packages, cargo tools); idempotent
	@scripts/setup test

build: ## Build the weft binary
	@scripts/setup build
	scripts/cargo build --profile $(PROFILE) -p weft

demo: ## Two hosts and one overlay, then a declared network: real traffic, in about a minute
	@scripts/setup demo
	scripts/cargo build --profile $(PROFILE) -p weft
	@scripts/demo $(WEFT)

test: ## Every test, fuzz targets included
	@scripts/setup test
	scripts/cargo fmt --all --check
	scripts/cargo clippy --workspace --all-targets --profile $(PROFILE) -- -D warnings
	scripts/root env PROPTEST_RNG_SEED=$(SEED) scripts/cargo nextest run --workspace --cargo-profile $(PROFILE) --no-tests=fail
	@scripts/fuzz $(FUZZ_SECONDS) $(SEED)

bench: ## Compare with real peers in one interleaved run; prints ratios
	@scripts/setup bench
	scripts/root scripts/cargo bench -p weft --bench peers -- $(BENCH_ARGS)

check: ## Formatting, lints, licences and advisories, house rules
	@scripts/setup check
	scripts/cargo fmt --all --check
	scripts/cargo clippy --workspace --all-targets --profile $(PROFILE) -- -D warnings
	scripts/cargo deny --all-features check bans licenses sources
	@scripts/cargo deny --all-features check advisories || { \
	  echo "check: advisories were not checked or are open (see above); without a network the database cannot be fetched" >&2; \
	  [ -n "$(OFFLINE)" ]; }
	scripts/cargo nextest run --cargo-profile $(PROFILE) -p weft --test house

fuzz: ## Build and run every fuzz target for FUZZ_SECONDS each
	@scripts/setup test
	@scripts/fuzz $(FUZZ_SECONDS)

soak: ## Every test of the rooms without I/O, ROUNDS times, each from a fresh seed
	@scripts/setup test
	scripts/cargo nextest run --workspace --cargo-profile $(PROFILE) --no-fail-fast --stress-count $(ROUNDS) --status-level fail \
	  -E 'package(/^weft-(wire|flow|pipeline|openflow|ovsdb|conntrack|compile|libvirt|model|services)$$/)'

clean: ## Remove what was built
	scripts/cargo clean
	rm -rf fuzz/target
