// Package verified verifies signatures as Flux does: by internal/oci/notation of its source-controller, which ../../overlay adds to this
// module when Go compiles it, with the few other files that it needs. What pulls in all of source-controller is left out.
package verified

import (
	"context"
	"fmt"
	"net/http"

	"github.com/fluxcd/source-controller/internal/oci"
	"github.com/fluxcd/source-controller/internal/oci/notation"
	"github.com/google/go-containerregistry/pkg/authn/k8schain"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	corev1 "k8s.io/api/core/v1"
)

// Digest gives the digest of an image that has a signature by this certificate, as the controller of OCIRepositories asks for both: with
// the Secret that `spec.secretRef` names.
func Digest(
	ctx context.Context,
	secret corev1.Secret,
	image string,
	policy *trustpolicy.Document,
	certificate []byte,
) (string, error) {
	keychain, err := k8schain.NewFromPullSecrets(ctx, []corev1.Secret{secret})
	if err != nil {
		return "", err
	}
	reference, err := name.ParseReference(image)
	if err != nil {
		return "", err
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(keychain)}
	found, err := remote.Head(reference, options...)
	if err != nil {
		return "", err
	}
	verifier, err := notation.NewNotationVerifier(
		notation.WithTrustPolicy(policy),
		notation.WithRemoteOptions(options...),
		notation.WithKeychain(keychain),
		notation.WithRootCertificates([][]byte{certificate}),
		notation.WithTransport(http.DefaultTransport.(*http.Transport).Clone()),
	)
	if err != nil {
		return "", err
	}
	result, err := verifier.Verify(ctx, reference.Context().Digest(found.Digest.String()))
	if err != nil {
		return "", err
	}
	if result != oci.VerificationResultSuccess {
		return "", fmt.Errorf("the result of the verification is %q", result)
	}
	return found.Digest.String(), nil
}
