// Command scanners asks a registry for an image as scanners and verifiers do, by their own code, and prints the image's digest. The
// docker config is that in the directory DOCKER_CONFIG.
//
//   - trivy: fetches the image with its layers, as Trivy does.
//   - cosign: verifies its signature by the public key in the file, as cosign does.
//   - policy-controller: the same with the pull secrets of a ServiceAccount, as Sigstore's policy-controller finds them.
//   - sign: signs the image by a new key as cosign does, so that there is something to verify, and writes the public key to the file.
package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aquasecurity/trivy/pkg/fanal/types"
	trivy "github.com/aquasecurity/trivy/pkg/remote"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/authn/k8schain"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sigstore/cosign/v3/pkg/cosign"
	"github.com/sigstore/cosign/v3/pkg/oci/mutate"
	ociremote "github.com/sigstore/cosign/v3/pkg/oci/remote"
	"github.com/sigstore/cosign/v3/pkg/oci/static"
	"github.com/sigstore/policy-controller/pkg/webhook/registryauth"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/payload"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// More than a registry on the same machine ever needs.
const timeout = 30 * time.Second

var errUsage = errors.New("usage: scanners trivy IMAGE | cosign|sign IMAGE KEY-FILE | " +
	"policy-controller IMAGE KEY-FILE KUBECONFIG NAMESPACE SERVICE-ACCOUNT")

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	digest, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "scanners:", err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

func run(ctx context.Context, arguments []string) (string, error) {
	if len(arguments) < 2 {
		return "", errUsage
	}
	reference, err := name.ParseReference(arguments[1])
	if err != nil {
		return "", err
	}
	switch action := arguments[0]; {
	case action == "trivy" && len(arguments) == 2:
		return scan(ctx, reference)
	case action == "cosign" && len(arguments) == 3:
		return verify(ctx, reference, arguments[2], authn.DefaultKeychain)
	case action == "sign" && len(arguments) == 3:
		return sign(reference, arguments[2])
	case action == "policy-controller" && len(arguments) == 6:
		keychain, err := keychainOf(ctx, arguments[3], arguments[4], arguments[5])
		if err != nil {
			return "", err
		}
		return verify(ctx, reference, arguments[2], keychain)
	default:
		return "", errUsage
	}
}

// scan fetches all of an image. Trivy finds the credential by itself.
func scan(ctx context.Context, reference name.Reference) (string, error) {
	descriptor, err := trivy.Get(ctx, reference, types.RegistryOptions{})
	if err != nil {
		return "", err
	}
	image, err := descriptor.Image()
	if err != nil {
		return "", err
	}
	layers, err := image.Layers()
	if err != nil {
		return "", err
	}
	for _, layer := range layers {
		if err := read(layer); err != nil {
			return "", err
		}
	}
	return descriptor.Digest.String(), nil
}

func read(layer v1.Layer) error {
	content, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer content.Close()
	_, err = io.Copy(io.Discard, content)
	return err
}

func verify(ctx context.Context, reference name.Reference, file string, keychain authn.Keychain) (string, error) {
	written, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	key, err := cryptoutils.UnmarshalPEMToPublicKey(written)
	if err != nil {
		return "", err
	}
	verifier, err := signature.LoadVerifier(key, crypto.SHA256)
	if err != nil {
		return "", err
	}
	options := []ociremote.Option{
		ociremote.WithRemoteOptions(remote.WithContext(ctx), remote.WithAuthFromKeychain(keychain)),
	}
	_, _, err = cosign.VerifyImageSignatures(ctx, reference, &cosign.CheckOpts{
		RegistryClientOpts: options,
		ClaimVerifier:      cosign.SimpleClaimVerifier,
		SigVerifier:        verifier,
		// There is no transparency log here.
		IgnoreTlog: true,
	})
	if err != nil {
		return "", err
	}
	digest, err := ociremote.ResolveDigest(reference, options...)
	if err != nil {
		return "", err
	}
	return digest.DigestStr(), nil
}

func keychainOf(ctx context.Context, kubeconfig, namespace, account string) (authn.Keychain, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	// The proxy of the environment leads to the registry, not to the API server.
	config.Proxy = nil
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return registryauth.NewK8sKeychain(ctx, api, k8schain.Options{Namespace: namespace, ServiceAccountName: account})
}

func sign(reference name.Reference, file string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	signer, err := signature.LoadECDSASigner(key, crypto.SHA256)
	if err != nil {
		return "", err
	}
	// Signatures are of digests.
	digest, err := ociremote.ResolveDigest(reference)
	if err != nil {
		return "", err
	}
	signed, err := payload.Cosign{Image: digest}.MarshalJSON()
	if err != nil {
		return "", err
	}
	raw, err := signer.SignMessage(bytes.NewReader(signed))
	if err != nil {
		return "", err
	}
	attached, err := static.NewSignature(signed, base64.StdEncoding.EncodeToString(raw))
	if err != nil {
		return "", err
	}
	entity, err := ociremote.SignedEntity(digest)
	if err != nil {
		return "", err
	}
	entity, err = mutate.AttachSignatureToEntity(entity, attached)
	if err != nil {
		return "", err
	}
	if err := ociremote.WriteSignatures(digest.Context(), entity); err != nil {
		return "", err
	}
	public, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil {
		return "", err
	}
	return digest.DigestStr(), os.WriteFile(file, public, 0o600)
}
