# Everything a person or CI does with this checkout; `make` alone lists it. Each target installs what it misses.

.DEFAULT_GOAL := help
.PHONY: help setup build demo test chaos sabotage bench check fmt

MILLSTREAM = target/release/millstream
# Of a profile of its own, which compiles in half the time (Cargo.toml).
DEMO = target/demo/millstream
# The first time, on two cores: 3.5 on a new machine, twice that on a slow or busy one.
DEMO_MINUTES = 4 to 8
# cargo-deny and cargo-machete, if scripts/setup.sh had to install them.
TOOLS = PATH="$$PATH:$(CURDIR)/target/tools/bin"
# One --workspace build everywhere: a build of one package unifies features differently and compiles everything again.
NEXTEST = cargo nextest run --workspace --locked

# demo: a file or folder to work on, or several separated by spaces; none: the samples of the program.
INPUT =
# demo: KEEP=1 leaves everything running.
KEEP =
# chaos: how long faults are injected, and what decides which; a random seed is printed.
MINUTES = 20
SEED =
# chaos: only these cases, separated by commas.
ONLY =
# chaos: how long the probes of a fleet without faults are watched afterwards; 0: not at all.
PROBES = 15
# bench: QUICK=1 for a first impression.
QUICK =

help:
	@echo 'make demo    the whole system on real PDFs, with a private Postgres and Redis'
	@echo '             INPUT="FILE-OR-FOLDER ..." your own PDFs; KEEP=1 leaves it running'
	@echo 'make test    every test'
	@echo 'make chaos   faults under load, one after another; MINUTES=20 SEED=... ONLY=F01,F08 PROBES=15'
	@echo 'make sabotage  shows that the tests which guard the protocol fail when a rule is broken'
	@echo 'make bench   the benchmarks; QUICK=1 for short ones'
	@echo 'make check   format, lints, docs, unused dependencies, licences'
	@echo 'make build   $(MILLSTREAM), and its debug information beside it'
	@echo 'make fmt     format the code'
	@echo 'make setup   install what the others would install'

setup:
	@scripts/setup.sh test
	@scripts/setup.sh check

build:
	@scripts/setup.sh run
	cargo build --release --workspace --locked
	scripts/split-debug.sh $(MILLSTREAM)

# INPUT reaches the shell as a variable, so that a name with spaces or quotes in it stays one name.
demo: export INPUT_PATHS = $(INPUT)
demo:
	@scripts/setup.sh run
	@[ -x $(DEMO) ] || echo "Compiling millstream: about $(DEMO_MINUTES) minutes on two cores, once. cargo counts the crates."
	cargo build --profile demo -p millstream-admin --bin millstream --locked
	@set -- --workers 2 $(if $(KEEP),,--exit-when-done) $(if $(INPUT),,--samples); \
	if [ -e "$$INPUT_PATHS" ]; then set -- "$$@" --input "$$INPUT_PATHS"; \
	else for path in $$INPUT_PATHS; do set -- "$$@" --input "$$path"; done; fi; \
	echo "$(DEMO) dev $$*"; exec $(DEMO) dev "$$@"

test:
	@scripts/setup.sh test
	@if cargo nextest --version >/dev/null 2>&1; then set -x; $(NEXTEST); else set -x; cargo test --workspace --locked --no-run && cargo test --workspace --locked --exclude own-handlers; fi

chaos:
	@scripts/setup.sh test
	# With the tests: only then have the programs their failpoints.
	cargo build --workspace --bins --tests --locked
	target/debug/chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))
	$(if $(filter-out 0,$(PROBES)),target/debug/chaos --probes $(PROBES))

# Each build breaks one rule of the protocol; the test that guards it must fail.
sabotage:
	@scripts/setup.sh test
	scripts/sabotage.sh

bench: build
	$(MILLSTREAM) bench $(if $(QUICK),--quick)

check:
	@scripts/setup.sh check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
	$(TOOLS) cargo machete
	$(TOOLS) cargo deny --offline --locked --target "$$(rustc -vV | sed -n 's/^host: //p')" check licenses bans sources

fmt:
	cargo fmt --all
