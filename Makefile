# Two commands do it all on a fresh Debian machine: `make demo` and `make test`.
# Every target works as root or through sudo.

PROFILE ?= lab
FUZZ_SECONDS ?= 60
WEFT := $(or $(CARGO_TARGET_DIR),target)/$(PROFILE)/weft

.PHONY: help demo test bench check fuzz setup setup-bench build clean

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
	scripts/root scripts/cargo nextest run --workspace --cargo-profile $(PROFILE) --no-tests=fail
	@scripts/fuzz $(FUZZ_SECONDS)

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

clean: ## Remove what was built
	scripts/cargo clean
	rm -rf fuzz/target
