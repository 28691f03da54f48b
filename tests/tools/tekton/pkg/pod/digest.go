// Package pod is Tekton Pipelines' look-up of entrypoints, the files entrypoint_lookup.go and entrypoint_lookup_impl.go of its own
// package pod, which ../../../overlay adds to this directory when Go compiles it. Its other files, which pull in all of Tekton, are left
// out.
package pod

import (
	"context"

	// What only the files that are added import is in go.mod by this.
	_ "github.com/hashicorp/golang-lru"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// WithDigest gives an image with its digest, as the controller of TaskRuns asks for it where a step has no command: with the pull secrets
// of the ServiceAccount of the run.
func WithDigest(ctx context.Context, api kubernetes.Interface, namespace, serviceAccount, image string) (string, error) {
	cache, err := NewEntrypointCache(api)
	if err != nil {
		return "", err
	}
	steps := []corev1.Container{{Image: image}}
	resolved, err := resolveEntrypoints(ctx, cache, namespace, serviceAccount, nil, steps)
	if err != nil {
		return "", err
	}
	return resolved[0].Image, nil
}
