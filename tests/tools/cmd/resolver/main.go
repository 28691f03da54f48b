// Command resolver asks a registry for an image's digest as controllers do that resolve images before there is a Pod:
// with the pull secrets of a ServiceAccount, read from the API server.
//
// Knative Serving and Tekton Pipelines do it with the library that this program uses.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/authn/kubernetes"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	client "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// More than a registry on the same machine ever needs.
const timeout = 30 * time.Second

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: resolver KUBECONFIG NAMESPACE SERVICE-ACCOUNT IMAGE")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	digest, err := resolve(ctx, os.Args[1], os.Args[2], os.Args[3], os.Args[4])
	if err != nil {
		fmt.Fprintln(os.Stderr, "resolver:", err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

func resolve(ctx context.Context, kubeconfig, namespace, serviceAccount, image string) (string, error) {
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
	keychain, err := kubernetes.New(ctx, api, kubernetes.Options{
		Namespace:          namespace,
		ServiceAccountName: serviceAccount,
	})
	if err != nil {
		return "", err
	}
	reference, err := name.ParseReference(image)
	if err != nil {
		return "", err
	}
	descriptor, err := remote.Head(reference, remote.WithAuthFromKeychain(keychain), remote.WithContext(ctx))
	if err != nil {
		return "", err
	}
	return descriptor.Digest.String(), nil
}
