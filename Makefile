SHELL         := /bin/bash
.SHELLFLAGS   := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS     += --no-print-directory

# The version is stamped here and not by Go's own look at the repository, which
# fails the build where git distrusts the owner of a mounted checkout.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOBUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'
LINT    := go tool -modfile=scripts/tools/go.mod golangci-lint

#: Packages to test, lint, fuzz and measure
PKG ?= ./...
#: Longest time for the tests of one package
TIMEOUT ?= 20m
#: Time for each fuzz target
FUZZ ?= 10s
#: Benchmarks to run, a regular expression
BENCH ?= .
#: Runs of each benchmark; benchstat wants 6 or more
COUNT ?= 1
#: How long chaos injects random faults
DURATION ?= 10m
#: Flags for contract, such as CONTRACT='-run volumes/0.. -o json'
CONTRACT ?=
#: Flags for clients and keystone, such as CLIENTS='-short -o json'
CLIENTS ?=
#: Which mutants to judge, and how; see scripts/mutants
MUTANTS ?=
#: What model runs; see docs/model
MODEL ?= -suite full
#: Scenarios that chaos runs first
SCENARIO ?= all
#: Random fault histories for sim
SEEDS ?= 2000
#: Time for sim instead, as in 3m
FOR ?=
#: Seed of the first of them; date +%s explores
FIRST ?= 1
#: Faults and requests in each of them
EVENTS ?= 60

#: How often recovery measures each case
RUNS ?= 20

##@ Everyday
.PHONY: build
build: ## Build bin/lockstep
	$(GOBUILD) -o bin/ ./cmd/lockstep

# The race detector needs a C compiler with its headers, and not every platform
# has it. Building the one package that needs all of that asks Go itself.
.PHONY: test
test: ## All tests, under the race detector where a C compiler is found
	@race=-race; \
	go build -race runtime/cgo 2>/dev/null || { \
		race=; export CGO_ENABLED=0; \
		echo 'make test: no working C compiler for the race detector, testing without it'; }; \
	set -x; go test $$race -shuffle=on -timeout=$(TIMEOUT) $(PKG)

.PHONY: demo
demo: build ## Three nodes, real files, kill -9, failover and failback, in a minute
	CGO_ENABLED=0 go run ./scripts/demo -bin bin/lockstep

.PHONY: contract
contract: build ## Replay what a running Cinder was asked, and compare the answers
	CGO_ENABLED=0 go run ./scripts/contract -bin bin/lockstep $(CONTRACT)

.PHONY: lint
lint: ## All static checks
	$(LINT) run $(PKG)

.PHONY: fmt
fmt: ## Format the code
	$(LINT) fmt $(PKG)

PROTOGEN := go run ./scripts/protogen
PROTO    := driverhost/process/driverpb/driver.proto

.PHONY: generate
generate: ## Generated code, from its sources
	$(PROTOGEN) $(PROTO)

##@ Before a merge
.PHONY: check
check: ## All that CI runs, with the time of each step
	.ci/run

.PHONY: race
race: ## All tests under the race detector, or an error
	go test -race -shuffle=on -timeout=$(TIMEOUT) $(PKG)

.PHONY: fuzz
fuzz: ## Every fuzz target, FUZZ long each
	scripts/fuzz $(FUZZ) $(PKG)

.PHONY: fmt-check
fmt-check: ## Fail if a file is not formatted
	$(LINT) fmt --diff $(PKG)

.PHONY: generate-check
generate-check: ## Fail if generated code is not current
	$(PROTOGEN) -check $(PROTO)

.PHONY: tidy-check
tidy-check: ## Fail if go.mod or go.sum is not tidy
	go mod tidy -diff

##@ Now and then
.PHONY: keystone
keystone: build ## Tokens of a real Keystone and the clients of its users, all installed from Debian's packages first
	scripts/debian-install keystone-manage=python3-keystone cinder=python3-cinderclient openstack=python3-openstackclient
	scripts/keystone/run go test -count=1 -tags=keystone -run=RealKeystone -v ./api/auth
	CGO_ENABLED=0 scripts/keystone/run go run ./scripts/clients -bin bin/lockstep -keystone -short $(CLIENTS)

.PHONY: clients
clients: build ## OpenStack's own cinder and openstack, installed from Debian's packages, against three nodes
	scripts/debian-install cinder=python3-cinderclient openstack=python3-openstackclient
	CGO_ENABLED=0 go run ./scripts/clients -bin bin/lockstep $(CLIENTS)

.PHONY: sim
sim: ## SEEDS random fault histories of whole deployments, or as many as fit into FOR
	@mkdir -p bin/sim
	go test -c -o bin/sim/sim.test ./cmd/internal/clustertest
	cd bin/sim && ./sim.test -test.timeout=0 -test.run=Histories -seeds=$(SEEDS) $(if $(FOR),-for=$(FOR)) -first=$(FIRST) -events=$(EVENTS) -evidence=.

.PHONY: chaos
chaos: ## Break real processes for DURATION while clients work, and check every promise
	scripts/chaos -duration $(DURATION) -scenario $(SCENARIO)

.PHONY: model
model: ## Search every state of the failover protocol for a broken guarantee
	go run ./docs/model $(MODEL)

.PHONY: mutants
mutants: ## Break one safety rule after the other in a copy of the source: the tests must notice
	go run ./scripts/mutants $(MUTANTS)

.PHONY: bench
bench: build ## The state machine's benchmarks and those of three processes over HTTP
	go test -run='^$$' -bench='$(BENCH)' -benchmem -count=$(COUNT) -timeout=2h ./fsm ./cmd/... | tee bin/bench.txt

.PHONY: recovery
recovery: ## How long it takes to go on after kill -9, RUNS times each; bin/recovery.json, and the nodes' logs in bin/_artifacts
	@mkdir -p bin
	go test -v -count=1 -timeout=2h ./cmd/internal/bench -run '^TestRecovery$$' -recovery $(RUNS) -recovery-json $(CURDIR)/bin/recovery.json \
		-artifacts -outputdir $(CURDIR)/bin

.PHONY: cover
cover: ## Coverage of all packages by all tests
	@mkdir -p bin
	go test -coverpkg=./... -coverprofile=bin/cover.out -timeout=$(TIMEOUT) $(PKG)
	go tool cover -func=bin/cover.out | tail -1

.PHONY: vuln
vuln: ## Known vulnerabilities (asks the Go vulnerability database)
	go tool -modfile=scripts/tools/go.mod govulncheck $(PKG)

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin

.PHONY: help
help: ## Say what there is
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 } \
		/^#: / { says = substr($$0, 4) } \
		/^[A-Z]+ \?= / && says { split($$0, a, / \?= /); vars = vars sprintf("  %-14s %s (now %s)\n", a[1], says, ENVIRON[a[1]] == "" ? a[2] : ENVIRON[a[1]]); says = "" } \
		END { printf "\nVariables, as in make fuzz FUZZ=1m\n%s", vars }' $(MAKEFILE_LIST)
