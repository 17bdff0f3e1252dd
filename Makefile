# make test, demo and bench do all set-up a fresh machine needs; only rustup has to be there.
# KAFKA_VERSION=3.9.2 make test runs against another Kafka than the one of tests/kafka/pom.xml.

.PHONY: setup check test soak demo bench expect

setup:
	@tests/kafka/setup.sh

check: setup
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
	@cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --version 0.20.2 --locked --debug
	cargo deny check bans licenses sources

# Tests mostly wait for brokers.
test: export RUST_TEST_THREADS ?= $(shell expr 2 \* $$(nproc))
test: setup
	cargo test

# What only many tries find: MINUTES of property tests, simulations under new seeds and parsers against garbage, then
# all brokers of a cluster frozen again and again.
MINUTES ?= 10
soak: setup
	cargo test --release --lib --no-run
	@seed=$$(date +%s); end=$$(( seed + 60 * $(MINUTES) )); while [ $$(date +%s) -lt $$end ]; do \
		echo "CAUSEWAY_SEED=$$seed..$$(( seed + 5000 ))"; \
		PROPTEST_CASES=2000 CAUSEWAY_SEED=$$seed..$$(( seed + 5000 )) cargo test -q --release --lib || exit; \
		seed=$$(( seed + 5000 )); \
	done
	CAUSEWAY_FREEZES=10 CAUSEWAY_FREEZE_SECONDS=11 cargo test --release --test main -- a_daemon_outlives

demo: setup
	cargo build --release --bins --example demo
	@cargo run --quiet --release --example demo

bench: setup
	cargo build --release
	cargo run --release --example bench -- $(ARGS)

# Writes what tests compare with whole texts: docs/reference, examples of mistakes and of import.
expect: setup
	UPDATE_EXPECT=1 cargo test --lib
	UPDATE_EXPECT=1 cargo test --test main -- the_pages_of_the_reference each_example_gives
