// Command resolver asks a registry for an image's digest as others do that are no kubelets, by the library that they do it with:
//
//   - knative: by Knative Serving's own resolver, with the pull secrets of a ServiceAccount.
//   - tekton: by Tekton Pipelines' own look-up of entrypoints, with the pull secrets of a ServiceAccount.
//   - service-account: with the pull secrets of a ServiceAccount.
//   - pull-secret: with one Secret that an object of their own names, as Flux does.
//   - docker-config: with a docker config in a file, which is the content of that Secret, as trivy, cosign and crane do.
//   - scanner: with the same file, by the library that fetches images, layers included, for Syft and Grype.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/anchore/stereoscope/pkg/file"
	"github.com/anchore/stereoscope/pkg/image"
	"github.com/anchore/stereoscope/pkg/image/oci"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/authn/kubernetes"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/tektoncd/pipeline/pkg/pod"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"pullpass.dev/tools/knative/revision"
)

// More than a registry on the same machine ever needs.
const timeout = 30 * time.Second

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: resolver KUBECONFIG NAMESPACE knative|tekton|service-account|pull-secret|docker-config|scanner NAME IMAGE")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	digest, err := resolve(ctx, os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	if err != nil {
		fmt.Fprintln(os.Stderr, "resolver:", err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

func resolve(ctx context.Context, kubeconfig, namespace, by, object, reference string) (string, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return "", err
	}
	// The proxy of the environment leads to the registry, not to the API server.
	config.Proxy = nil
	api, err := client.NewForConfig(config)
	if err != nil {
		return "", err
	}
	if by == "knative" {
		resolved, err := revision.Resolve(ctx, api, namespace, object, nil, reference)
		return digestOf(resolved), err
	}
	if by == "tekton" {
		resolved, err := pod.WithDigest(ctx, api, namespace, object, reference)
		return digestOf(resolved), err
	}
	keychain, err := keychainOf(ctx, api, namespace, by, object)
	if err != nil {
		return "", err
	}
	if by == "scanner" {
		return scan(ctx, reference)
	}
	parsed, err := name.ParseReference(reference)
	if err != nil {
		return "", err
	}
	descriptor, err := remote.Head(parsed, remote.WithAuthFromKeychain(keychain), remote.WithContext(ctx))
	if err != nil {
		return "", err
	}
	return descriptor.Digest.String(), nil
}

func digestOf(resolved string) string {
	_, digest, _ := strings.Cut(resolved, "@")
	return digest
}

func keychainOf(ctx context.Context, api client.Interface, namespace, by, object string) (authn.Keychain, error) {
	if by == "service-account" {
		return kubernetes.New(ctx, api, kubernetes.Options{Namespace: namespace, ServiceAccountName: object})
	}
	secret, err := api.CoreV1().Secrets(namespace).Get(ctx, object, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if by == "pull-secret" {
		return kubernetes.NewFromPullSecrets(ctx, []corev1.Secret{*secret})
	}
	if by != "docker-config" && by != "scanner" {
		return nil, fmt.Errorf("unknown way to read a pull secret: %s", by)
	}
	// The keychain reads the file when it is asked, and the directory is its caller's: DOCKER_CONFIG.
	config := filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json")
	if err := os.WriteFile(config, secret.Data[corev1.DockerConfigJsonKey], 0o600); err != nil {
		return nil, err
	}
	return authn.DefaultKeychain, nil
}

// scan fetches an image as a scanner does: it finds the credential by itself.
func scan(ctx context.Context, reference string) (string, error) {
	directories := file.NewTempDirGenerator("scan")
	defer directories.Cleanup()
	scanned, err := oci.NewRegistryProvider(directories, image.RegistryOptions{}, reference, nil).Provide(ctx)
	if err != nil {
		return "", err
	}
	if err := scanned.Read(); err != nil {
		return "", err
	}
	return scanned.Metadata.ManifestDigest, nil
}
