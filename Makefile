# make demo     builds both programs and runs the main job: a cluster through the whole manual bootstrap
# make test     builds and runs every test
# make test-local  all of them but the next
# make old-bugs    a part of it: puts old bugs back and sees that the simulation finds them
# make test-kube   the end-to-end tests, on a Kubernetes of their own (kind where there is Docker, else tests/kube/bare)
# make bench    prints the benchmark table; BENCH=core, dns, million, catalog, secure, agents, cluster or kube one part of it
# make verify   checks form: format, lints, docs, dependencies, generated files; changes no file
# make sbom     lists what is in the programs: CycloneDX files in target/sbom
# make advisories  checks dependencies against the advisory database, and fails where that cannot be fetched
# make fix      puts right what `make verify` can put right by itself
# make soak SEEDS=1000   runs that many simulated clusters; SEED=N runs that one again

CARGO ?= cargo
SEEDS ?= 200
KUBE_NODES ?= 1
DEMO_DIR ?= target/demo
SAMPLE := deploy/samples/three-servers.yaml
CRDS := $(wildcard crds/*.consulcluster.dev.yaml)
export PATH := $(HOME)/.cargo/bin:$(PATH)

# How long `make verify` tries to fetch the advisory database, in seconds.
ADVISORIES_WITHIN ?= 60
DENY_CONFIG ?= deny.toml
ADVISORIES = cargo-deny --config $(DENY_CONFIG) --offline check advisories

.PHONY: demo test test-local test-kube bench verify fix soak old-bugs advisories try-advisories sbom

# In a terminal it goes on until Ctrl-C, so that one can kill agents and watch. Otherwise it ends by itself.
demo:
	$(CARGO) build --release --locked --bins -p agent -p operator
	@if [ -t 1 ]; then \
	    exec target/release/operator local up $(SAMPLE) --dir $(DEMO_DIR); \
	else \
	    target/release/operator local up $(SAMPLE) --dir $(DEMO_DIR) --detach && \
	    target/release/operator local status --dir $(DEMO_DIR); \
	    code=$$?; target/release/operator local down --dir $(DEMO_DIR); exit $$code; \
	fi

# What the Kubernetes is made of is fetched and compiled beside the rest: the first time that takes minutes of Go.
test:
	@mkdir -p target && tests/kube/bed tools >target/kube-tools.log 2>&1 & \
	$(MAKE) --no-print-directory test-local || { code=$$?; kill $$! 2>/dev/null; exit $$code; }; \
	wait $$! || { cat target/kube-tools.log; exit 1; }
	$(MAKE) --no-print-directory test-kube

# The programs come first: tests of real processes start them from target/debug.
test-local:
	$(CARGO) build --workspace --locked --bins
	$(CARGO) test --workspace --locked
	$(MAKE) --no-print-directory old-bugs

# Puts old bugs back into a copy of the sources: the simulation must find each of them.
old-bugs:
	CARGO=$(CARGO) tests/simulation/bugs/run

# KUBE_TESTS is passed on to the tests: KUBE_TESTS=admission runs those whose name holds it. They wait most of the time,
# hence more threads than cores.
test-kube:
	$(CARGO) build --workspace --locked --bins
	$(CARGO) test --locked -p tests --test kube --no-run
	tests/kube/bed up $(KUBE_NODES)
	tests/kube/bed images
	tests/kube/bed run $(CARGO) test --offline --locked -p tests --test kube -- --test-threads=4 $(KUBE_TESTS); \
	    code=$$?; tests/kube/bed down; exit $$code

# BENCH=core, dns, million, catalog, secure, agents, cluster and kube run one part. The last one makes a Kubernetes of its own.
bench:
	$(CARGO) build --release --locked --bins
	@code=0; \
	if [ "$(BENCH)" != kube ]; then target/release/bench || code=1; fi; \
	case "$(BENCH)" in ""|kube) \
	    tests/kube/bed up && tests/kube/bed images target/release && \
	    BENCH=kube tests/kube/bed run target/release/bench || code=1; \
	    tests/kube/bed down ;; \
	esac; exit $$code

soak:
	$(CARGO) build --workspace --locked --bins
	SEEDS=$(SEEDS) $(CARGO) test --locked -p tests --test simulation -- --nocapture

verify:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) fetch --locked
	cargo-deny --offline check licenses bans sources
	@$(MAKE) --no-print-directory try-advisories
	@for crd in $(CRDS); do \
	    $(CARGO) run --quiet --locked -p operator -- crd $$(basename $$crd .yaml) | diff -u $$crd - || exit 1; \
	done

fix:
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets --locked --fix --allow-dirty --allow-staged
	for crd in $(CRDS); do $(CARGO) run --quiet --locked -p operator -- crd $$(basename $$crd .yaml) > $$crd; done

# Advisories where the database can be fetched. Where the network is missing, so is the database: that is said, and is no
# failure, or nobody could work there.
try-advisories:
	@if why=$$(timeout $(ADVISORIES_WITHIN) cargo-deny --config $(DENY_CONFIG) fetch db 2>&1); then \
	    $(ADVISORIES); \
	else \
	    why=$$(printf '%s\n' "$$why" | sed '/^$$/d' | tail -n 1); \
	    echo "verify: advisories were NOT checked, for their database cannot be had: $${why:-nothing in $(ADVISORIES_WITHIN) s}"; \
	fi

# Needs the network: fetches the advisory database.
advisories:
	cargo-deny --config $(DENY_CONFIG) fetch db
	$(ADVISORIES)

# A file for each program's package, of what is linked into it. Tests and what only builds need is not in it.
sbom:
	@command -v cargo-cyclonedx >/dev/null || $(CARGO) install --locked cargo-cyclonedx
	$(CARGO) fetch --locked
	@rm -rf target/sbom && mkdir -p target/sbom
# It puts a file beside each Cargo.toml; those of the two programs are kept. For the platform on which it is run.
	$(CARGO) cyclonedx --quiet --format json --spec-version 1.5 --no-build-deps
	@mv agent/agent.cdx.json operator/operator.cdx.json target/sbom/
	@rm -f agent/*/*.cdx.json tests/*.cdx.json
	@ls target/sbom/*
