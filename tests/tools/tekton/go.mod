// What is here of Tekton Pipelines: see pkg/pod.
module github.com/tektoncd/pipeline

go 1.26.3

require (
	github.com/google/go-containerregistry v0.22.1
	github.com/google/go-containerregistry/pkg/authn/k8schain v0.0.0-20260205022027-93aa2732266a
	github.com/hashicorp/golang-lru v1.0.2
	k8s.io/api v0.37.1
	k8s.io/client-go v0.37.1
)
