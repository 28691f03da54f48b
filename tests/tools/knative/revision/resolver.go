// Package revision is Knative Serving's resolver of tags, resolve.go of its own package revision, which ../../overlay adds to this
// directory when Go compiles it. Its other files, which pull in all of Knative, are left out.
package revision

import (
	"context"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn/k8schain"
	"k8s.io/client-go/kubernetes"
)

// Resolve gives an image with its digest, as the controller of Revisions asks for it: with the pull secrets of a ServiceAccount, and
// those that the Revision names.
func Resolve(
	ctx context.Context,
	api kubernetes.Interface,
	namespace, serviceAccount string,
	pullSecrets []string,
	image string,
) (string, error) {
	resolver := digestResolver{client: api, transport: http.DefaultTransport, userAgent: "knative/test (serving)"}
	options := k8schain.Options{
		Namespace:          namespace,
		ServiceAccountName: serviceAccount,
		ImagePullSecrets:   pullSecrets,
	}
	return resolver.Resolve(ctx, image, options, nil)
}
