// What is here of Flux's source-controller: see verified.
module github.com/fluxcd/source-controller

go 1.26.3

require (
	github.com/go-logr/logr v1.4.4
	github.com/google/go-containerregistry v0.22.1
	github.com/google/go-containerregistry/pkg/authn/k8schain v0.0.0-20260205022027-93aa2732266a
	github.com/notaryproject/notation-core-go v1.3.0
	github.com/notaryproject/notation-go v1.3.2
	k8s.io/api v0.37.1
	oras.land/oras-go/v2 v2.6.2
)
