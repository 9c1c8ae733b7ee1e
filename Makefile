# Strata: everything a contributor or a newcomer types. `make help` lists it.
SHELL   := /bin/bash
DATA    ?= $(CURDIR)/.data
CLUSTER ?= $(CURDIR)/.cluster
UP_FLAGS ?= # of strata up, such as --listen 0.0.0.0:5000
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
STRATA  := $(SUDO) bin/strata --data-dir $(DATA)

# Programs from the distribution: what a cloud runs on, and what its tests run besides.
RUN_PACKAGES  := qemu-system-x86 qemu-utils ovmf iproute2 nftables openssh-client e2fsprogs util-linux runc
TEST_PACKAGES := $(RUN_PACKAGES) python3-openstackclient python3-osc-placement tempest python3-cinderclient python3-octaviaclient octavia-tempest-plugin jq curl iputils-ping skopeo xfsprogs bind9-dnsutils netcat-openbsd
CEPH_PACKAGES := $(RUN_PACKAGES) ceph-mon ceph-osd ceph-mgr ceph-common qemu-block-extra

# All compile with the same flags: each package once.
export CGO_ENABLED := 0
export GOFLAGS     := -trimpath
AS_ROOT := $(SUDO) env "PATH=$$PATH" "HOME=$$HOME" CGO_ENABLED=0 GOFLAGS=$(GOFLAGS)

# What Kubernetes' own build says of the version, for the module has no repository to ask.
KUBE_VERSION = $(shell cd kubernetes && go list -m -f '{{.Version}}' k8s.io/kubernetes)
KUBE_FLAGS   = $(foreach p,k8s.io/component-base/version k8s.io/client-go/pkg/version,-X $(p).gitVersion=$(KUBE_VERSION) -X $(p).gitMajor=$(word 1,$(KUBE_WORDS)) -X $(p).gitMinor=$(word 2,$(KUBE_WORDS)) -X $(p).gitTreeState=clean)
KUBE_WORDS   = $(subst ., ,$(KUBE_VERSION:v%=%))

.PHONY: help up down reset cluster cluster-down build kube kube-suite kube-conformance kube-check kube-test kube-vm-test kube-story kube-bench check test test-apart unit system conformance bench integrity ceph-test deps deps-test docs clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: deps build ## start the cloud, make the guest image, boot a demo server and log into it
	@$(STRATA) up --detach $(UP_FLAGS)
	@$(STRATA) image build tiny
	@$(STRATA) launch demo --reuse
	@[ -x bin/strata-kube ] || echo 'For clusters of Kubernetes (strata cluster create): make kube, which compiles Kubernetes, once, in minutes'

down: ## stop the cloud (servers keep running)
	@$(STRATA) down

reset: ## remove the cloud and every trace of it
	@[ ! -x bin/strata ] || $(STRATA) reset --yes

cluster: deps build ## a cloud of NODES=3 hosts, CONTROL=1 of them control members, in namespaces of this machine
	@$(AS_ROOT) go run ./test/cluster --dir $(CLUSTER) --nodes $(or $(NODES),3) --control $(or $(CONTROL),1) up

cluster-down: ## remove it and every trace
	@$(AS_ROOT) go run ./test/cluster --dir $(CLUSTER) down

build: ## compile bin/strata and the shim beside it
	@go build -ldflags '-s -w -X github.com/strata-cloud/strata/internal/cli.Version=$(VERSION)' -o bin/strata ./cmd/strata
	@go build -ldflags '-s -w' -o bin/strata-shim ./cmd/strata-shim
	@go build -ldflags '-s -w' -o bin/strata-worker ./cmd/strata-worker

# KUBE_TEST runs tests of clusters; APART has them see no clouds of other tests.
APART     = -exec '$(CURDIR)/test/apart'
KUBE_TEST = $(AS_ROOT) STRATA_NEEDS=all 'SUITE=$(or $(SUITE),ci)' go test -tags kube -count=1 -v

# SNAPSHOTS is the module that defines volume snapshots.
SNAPSHOTS = github.com/kubernetes-csi/external-snapshotter/client/v8

kube: ## compile bin/strata-kube and bin/strata-csi, the programs of Kubernetes; the first time takes minutes
	@cd kubernetes && go build -ldflags '-s -w $(KUBE_FLAGS)' -o ../bin/strata-kube ./cmd/strata-kube
	@cd kubernetes && go build -ldflags '-s -w' -o ../bin/strata-pause ./cmd/strata-pause
	@cd csi && go mod download $(SNAPSHOTS) && for kind in classes contents s; do install -m 644 "$$(go list -m -f '{{.Dir}}' $(SNAPSHOTS))/config/crd/snapshot.storage.k8s.io_volumesnapshot$$kind.yaml" internal/volumes/crds; done
	@cd csi && go build -ldflags '-s -w' -o ../bin/strata-csi ./cmd/strata-csi

kube-suite: ## compile upstream's tests of conformance and what their pods run
	@cd kubernetes && mkdir -p ../bin/kube-suite && go test -c -ldflags '-s -w $(KUBE_FLAGS)' -o ../bin/kube-suite/e2e.test k8s.io/kubernetes/test/e2e
	@cd kubernetes && go build -ldflags '-s -w' -o ../bin/kube-suite k8s.io/kubernetes/test/images/agnhost k8s.io/kubernetes/test/images/nonewprivs k8s.io/sample-apiserver github.com/onsi/ginkgo/v2/ginkgo
	@cd kubernetes && images="$$(go list -m -f '{{.Dir}}' k8s.io/kubernetes)/test/images" && install -m 644 "$$images"/agnhost/porter/localhost.* ../bin/kube-suite && \
	  for pet in kitten nautilus; do install -D -m 644 -t ../bin/kube-suite/$$pet "$$images"/$$pet/html/*; done

kube-conformance: deps-test build kube kube-suite ## upstream's own tests of conformance; SUITE=ci (default), full or a regular expression
	$(KUBE_TEST) $(APART) -timeout 4h -run '^TestKubeConformance$$' ./test/system

kube-vm-test: build kube ## a real cluster whose workers are servers; minutes without hardware virtualisation
	$(KUBE_TEST) -timeout 60m -run '^TestClusterVM$$' ./test/system

kube-check: ## formatting, vet and unit tests of the modules kubernetes and csi
	@out=$$(gofmt -l kubernetes csi); [ -z "$$out" ] || { echo "gofmt these:"; echo "$$out"; exit 1; }
	cd kubernetes && go vet ./... && go test ./...
	cd csi && go vet -tags sanity ./... && go test ./...

kube-test: build kube kube-suite ## real clusters of Kubernetes, on machines of the pool, and upstream's tests
	$(KUBE_TEST) $(APART) -timeout 80m -run '^Test(Cluster(Metal|Services|Day2|Volumes|Registry|Dual|Moves)|DriverSuite|KubeConformance)$$' ./test/system

kube-story: build kube ## the life of an application in a cluster: of machines, and of servers
	$(KUBE_TEST) -timeout 120m -run '^TestClusterStory(VM)?$$' ./test/system

kube-bench: build kube ## clusters and their pods, measured: on machines, and on servers beside
	$(KUBE_TEST) -timeout 60m -run '^TestCluster(Measured|sBeside)$$' ./test/system

check: ## formatting, vet and static analysis
	@out=$$(gofmt -l cmd internal test); [ -z "$$out" ] || { echo "gofmt these:"; echo "$$out"; exit 1; }
	go vet ./...
	go vet -tags ceph ./internal/blockdev/rbd ./test/ceph ./test/system
	go vet -tags kube ./test/system
	go tool staticcheck ./...

# The lanes are jobs of a shell: a make that counts jobs hangs at its end if a test left a process.
test: deps-test check unit build ## everything that must pass: half of it beside the other
	@$(MAKE) --no-print-directory test-apart & apart=$$!; beside=0; \
	  $(MAKE) --no-print-directory system || beside=$$?; wait $$apart && exit $$beside

test-apart: kube-check kube-test conformance # what does not see the clouds of other tests

unit: ## tests beside the code; those of the node need root
	$(AS_ROOT) STRATA_NEEDS=all go test -timeout 15m ./cmd/... ./internal/...

system: build ## a real cloud: QEMU, namespaces, kill -9, reset
	$(AS_ROOT) STRATA_NEEDS=all go test -count=1 -timeout 80m -v ./test/system/...

conformance: build ## clients and suites that others wrote; SET=smoke (default) or a regular expression
	$(AS_ROOT) 'SET=$(or $(SET),smoke)' go test -count=1 $(APART) -timeout 60m -v ./test/conformance/...

integrity: ## no flushed byte of a volume is lost: SEQUENCES=1000 random ones, with kill -9
	$(AS_ROOT) STRATA_INTEGRITY=$(or $(SEQUENCES),1000) go test -count=1 -timeout 60m -v ./internal/blockdev/integrity

ceph-test: build ## install Ceph and test volumes in a cluster of one node
	@$(MAKE) --no-print-directory deps RUN_PACKAGES='$(CEPH_PACKAGES)'
	$(AS_ROOT) STRATA_NEEDS=all go test -tags ceph -count=1 -timeout 15m -v -run 'TestConformance|TestCeph' ./internal/blockdev/rbd ./test/system

bench: build ## Go benchmarks, then a whole cloud measured from outside
	go test -run '^$$' -bench . -benchtime 1s ./internal/...
	$(AS_ROOT) go test -count=1 -timeout 60m -v ./test/bench/...

docs: ## generate docs/compat.md and docs/policy.md from the code
	go test ./internal/region -run TestGeneratedDocs -update

deps: ## install the programs that a cloud runs on
	@missing=$$(for p in $(RUN_PACKAGES); do dpkg-query -Wf '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	  [ -z "$$missing" ] || { echo "installing" $$missing; $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get update -qq && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; }

deps-test:
	@$(MAKE) --no-print-directory deps RUN_PACKAGES='$(TEST_PACKAGES)'

clean: ## remove what was compiled
	rm -rf bin
