# make test, demo and bench do all set-up a fresh machine needs; only rustup has to be there.
# KAFKA_VERSION=3.9.2 make test runs against another Kafka than the one of tests/kafka/pom.xml.

.PHONY: setup check test demo bench reference

setup:
	@tests/kafka/setup.sh

check: setup
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
	@cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --version 0.20.2 --locked --debug
	cargo deny check bans licenses sources

test: setup
	cargo test

demo: setup
	cargo build --release --bins --example demo
	@cargo run --quiet --release --example demo

bench: setup
	cargo build --release
	cargo run --release --example bench -- $(ARGS)

reference: setup
	cargo build
	@for page in configuration metrics errors commands; do \
		target/debug/causeway reference $$page > docs/reference/$$page.md || exit; \
	done
