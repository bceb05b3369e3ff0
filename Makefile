# make demo    sets up, builds, and runs one whole task
# make test    sets up, and runs every test
# make test-faults  kills the server at every step, and at random, again and again: an hour
# make fuzz    fuzzes what reads hostile bytes, ten minutes each
# make build   leaves target/release/patchyard with the page inside
SHELL := /bin/sh
export PATH := $(HOME)/.cargo/bin:$(CURDIR)/target/tools/node/bin:$(PATH)

# Sandboxes need root; a user with sudo is asked once.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E env "PATH=$$PATH")

.PHONY: demo test build setup guest web lint test-rust test-web test-served bench test-churn test-faults test-simulation test-packages fuzz fuzz-planted clean

demo: build
	@$(AS_ROOT) target/release/patchyard demo $(DEMO_FLAGS)

build: setup guest web
	@cargo build --quiet --release --package cli --bin patchyard

setup:
	@scripts/setup

guest: setup
	@scripts/build-guest

# The page is built anew only when something of it changed.
web: setup web/dist/index.html

web/dist/index.html: $(shell find web/src web/index.html web/vite.config.ts web/package-lock.json web/scripts -type f 2>/dev/null)
	@npm --prefix web run --silent build
	@touch $@

test: lint test-web test-rust test-served

lint: setup guest web
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- --deny warnings

test-rust: setup guest web
	cargo test --quiet --workspace --no-run
	$(AS_ROOT) cargo test --quiet --workspace

test-web: setup web
	npm --prefix web run --silent check
	npm --prefix web test --silent
	npm --prefix web run --silent size
	npm --prefix web run --silent e2e

# The page as the real binary serves it, over a real session in a real browser.
test-served: setup guest web
	cargo build --quiet --package cli --bin patchyard
	cd web && $(AS_ROOT) node --test e2e/served/served.test.mjs

# A thousand sandboxes and a thousand sessions, with sandbox-host and the server killed again and again;
# make test runs a few.
test-churn: setup guest web
	PATCHYARD_CHURN=1000 $(AS_ROOT) cargo test --package sandbox --test matrix churn -- --nocapture
	PATCHYARD_CHURN=1000 $(AS_ROOT) cargo test --package cli --test e2e churn -- --nocapture

# The server is killed at each step of a session's life that outlives it, at some of them twice, and two hundred
# times at random while eight sessions work; make test tries ten steps.
test-faults: setup guest web test-simulation
	PATCHYARD_SWEEP=all $(AS_ROOT) cargo test --package cli --test e2e l04 -- --nocapture
	$(AS_ROOT) cargo test --package cli --test e2e -- --ignored l05 --nocapture

# A thousand seeds of the simulated world, and each of three broken rules found within as many; make test runs
# fifty, and two of the rules.
# One seed again, with its trace: PATCHYARD_SIMULATION_SEED=N cargo test -p session --test simulation one_seed --
# --ignored --nocapture
SEEDS ?= 1000
test-simulation:
	PATCHYARD_SIMULATION_SEEDS=$(SEEDS) cargo test --package session --test simulation -- --include-ignored --nocapture

# Real package managers in a sandbox at level trusted, with the real registries: some 350 MB; and the Agent SDK for
# Python, which drives `patchyard -p`.
test-packages: setup guest
	$(AS_ROOT) cargo test --package cli --test e2e -- --ignored packages --nocapture
	cargo test --package cli --test headless -- --ignored sdk --nocapture

MINUTES ?= 10

fuzz: setup
	@scripts/fuzz --minutes $(MINUTES)

# Each target has to find a bug that is put there for it.
fuzz-planted: setup
	@scripts/fuzz --planted

# Figures for docs/PERFORMANCE.md, one JSON line each.
bench: build
	@scripts/bench-peers
	@$(AS_ROOT) cargo run --quiet --release --package benches -- --patchyard target/release/patchyard

clean:
	cargo clean
	rm -rf web/dist
