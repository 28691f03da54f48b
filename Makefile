# Everything that one does with a checkout. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# Tests that start a cluster wait more than they work: twice as many as there are processors.
export RUST_TEST_THREADS ?= $(shell echo $$(( $$(nproc) * 2 )))
KEEP ?=
SECONDS ?= 60
TARGETS ?=
FILES ?=
PODS ?= 100000

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what the tests need and the machine lacks (Debian packages; asks for nothing else)
	@tests/setup

.PHONY: build
build: ## Build pullpass (debug)
	cargo build --locked

.PHONY: demo
demo: ## Show the main job on a real control plane; KEEP=1 leaves it up
	-@tests/setup
	cargo build --locked --workspace --bins
	cargo run --locked --quiet -p pullpass-test-support --bin demo -- --pullpass target/debug/pullpass $(if $(KEEP),--keep)

# An API server of a test lives for seconds: collecting garbage less often, it takes a fifth less of the processors until then.
test test-oldest test-scanners: export GOGC = 400
test test-oldest test-scanners: export GOMEMLIMIT = 1GiB

.PHONY: components
components: setup ## Build what the tests run against: a control plane, a node and tools
	tests/control-plane/build >/dev/null
	if [[ $$EUID == 0 ]]; then tests/node/build >/dev/null; fi
	tests/tools/build health >/dev/null
	tests/tools/crds >/dev/null
	tests/tools/build helm >/dev/null
	tests/tools/build reports >/dev/null
	tests/tools/build resolver >/dev/null
	tests/tools/build verifier >/dev/null

.PHONY: test
test: components ## Run all tests: unit, property, integration, and end to end on a real control plane
	cargo test --locked --workspace
	source tests/go-environment && cd tests/control-plane && go test ./...

.PHONY: test-oldest
test-oldest: setup ## Run the tests of the manifests, the certificates, the secret sync and the component enforce on the oldest Kubernetes (docs/testing.md)
	tests/tools/build health >/dev/null
	tests/tools/crds >/dev/null
	tests/tools/build helm >/dev/null
	tests/tools/build resolver >/dev/null
	tests/tools/build verifier >/dev/null
	set -e; KUBEBUILDER_ASSETS=$$(tests/oldest/build); export KUBEBUILDER_ASSETS; failed=0; \
	  cargo test --locked --no-fail-fast --test install --test certificates --test sync || failed=1; \
	  cargo test --locked --test policy enforce:: || failed=1; \
	  exit $$failed

.PHONY: test-scanners
test-scanners: setup ## Have Trivy, cosign and Sigstore's policy-controller pull with a pull secret; builds them first, for minutes
	tests/scanners/build >/dev/null
	source tests/go-environment && cd tests/scanners && go vet .
	cargo test --locked --test sync -- --ignored --exact scanners::trivy_and_sigstore_pull_with_the_pull_secret

.PHONY: lint
lint: ## Check formatting, lints, licences, advisories and generated files
	@tests/lint

.PHONY: queries
queries: ## Try the queries of docs/audit.md that need Loki's and Kusto's own parsers
	@tests/audit/queries/run

.PHONY: picture
picture: setup ## Write the picture in docs/audit.md, of a page of `pullpass audit`
	cargo test --locked --test policy -- --ignored --exact audit_page::picture

.PHONY: bench
bench: ## Measure the webhook, also while it is flooded and beside Go, the secret sync, 10,000 Pods and the API server's policies, each against a floor in the same run, and how steps grow
	tests/control-plane/build >/dev/null
	cargo bench --locked --bench webhook
	cargo bench --locked --bench flood
	cargo bench --locked --bench sync
	cargo bench --locked --bench policy
	cargo bench --locked --bench coverage -- --pods 10000
	benches/peers/build >/dev/null
	cargo bench --locked --bench peers
	cargo bench --locked --bench fleet
	cargo bench --locked --bench growth

.PHONY: soak
soak: setup ## Create PODS Pods (default 100000, up to 20 minutes) while replicas die and much changes, and count those without a pull secret
	tests/control-plane/build >/dev/null
	cargo bench --locked --bench soak -- --pods $(PODS)

.PHONY: outage
outage: setup ## Start a Pod a minute on a node while pullpass is down for half an hour; needs root
	tests/node/build >/dev/null
	cargo test --locked --test node -- --ignored --exact --nocapture outage::pods_start_in_an_outage_of_thirty_minutes

.PHONY: fuzz
fuzz: ## Fuzz every parser for SECONDS each (default 60), or TARGETS only; needs a C++ compiler
	tests/setup fuzz
	fuzz/run $(SECONDS) $(TARGETS)

.PHONY: mutants
mutants: ## Change the code of FILES in one place after the other, and list what no unit test notices; needs cargo-mutants
	@tests/mutants $(foreach file,$(FILES),'$(file)')

.PHONY: image-check
image-check: ## Build the image's root twice for each architecture, compare, and run it, all without a container engine
	tests/setup image
	tests/image/check

.PHONY: release
release: ## Make everything of a release into dist/: VERSION=x, and what CONTRIBUTING.md says of IMAGE, SOURCE, DOWNLOADS, BINARIES and PARTIAL
	@packaging/release $(VERSION)

.PHONY: fmt
fmt: ## Format the sources
	cargo fmt --all
	gofmt -w tests/control-plane tests/node tests/scanners tests/tools tests/audit/queries benches/peers packaging

.PHONY: generate
generate: ## Write the generated files
	cargo run --locked --quiet -- crd > manifests/base/crd.yaml.new
	mv manifests/base/crd.yaml.new manifests/base/crd.yaml
	cargo run --locked --quiet -- crd --bindings > manifests/components/bindings/crd.yaml.new
	mv manifests/components/bindings/crd.yaml.new manifests/components/bindings/crd.yaml
	manifests/chart/generate
	cargo run --locked --quiet -- man --format markdown > docs/cli.md.new
	mv docs/cli.md.new docs/cli.md
	for chart in chart registries-chart; do \
	  cargo run --locked --quiet -p pullpass-test-support --bin chart-readme -- manifests/$$chart > manifests/$$chart/README.md.new && \
	  mv manifests/$$chart/README.md.new manifests/$$chart/README.md || exit 1; done
	UPDATE=1 cargo test --locked --quiet --test generated reference || cargo test --locked --quiet --test generated reference
