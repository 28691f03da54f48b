// Command verifier verifies the signature of an image in a registry, with the credentials of the docker config in the directory
// DOCKER_CONFIG, and prints the image's digest. It trusts only the certificate in the file.
//
//   - notation: as the Notary Project's notation does, by its library, which reads the docker config by itself.
//   - flux: as Flux does, by the code of its source-controller, with a Secret that has that content.
//   - sign: signs the image by a new key, so that there is something to verify, and writes the certificate to the file.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/fluxcd/source-controller/verified"
	_ "github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/registry"
	"github.com/notaryproject/notation-go/signer"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	corev1 "k8s.io/api/core/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// More than a registry on the same machine ever needs.
const timeout = 30 * time.Second

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: verifier notation|flux|sign IMAGE CERTIFICATE-FILE")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	digest, err := run(ctx, os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, "verifier:", err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

func run(ctx context.Context, action, image, file string) (string, error) {
	if action == "flux" {
		return verifyByFlux(ctx, image, file)
	}
	repository, err := remote.NewRepository(image)
	if err != nil {
		return "", err
	}
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return "", err
	}
	repository.Client = &auth.Client{
		Client:     retry.DefaultClient,
		Cache:      auth.NewCache(),
		Credential: credentials.Credential(store),
	}
	// Signatures are of digests.
	target, err := repository.Resolve(ctx, repository.Reference.Reference)
	if err != nil {
		return "", err
	}
	reference := repository.Reference
	reference.Reference = target.Digest.String()
	signatures := registry.NewRepository(repository)
	switch action {
	case "sign":
		err = sign(ctx, signatures, reference.String(), file)
	case "notation":
		err = verify(ctx, signatures, reference.String(), file)
	default:
		err = fmt.Errorf("unknown action: %s", action)
	}
	return reference.Reference, err
}

func sign(ctx context.Context, signatures registry.Repository, reference, file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"Contoso"}},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	parsed, err := x509.ParseCertificate(certificate)
	if err != nil {
		return err
	}
	signing, err := signer.NewGenericSigner(key, []*x509.Certificate{parsed})
	if err != nil {
		return err
	}
	options := notation.SignOptions{
		SignerSignOptions: notation.SignerSignOptions{SignatureMediaType: jws.MediaTypeEnvelope},
		ArtifactReference: reference,
	}
	if _, err := notation.Sign(ctx, signing, signatures, options); err != nil {
		return err
	}
	return os.WriteFile(file, certificate, 0o600)
}

func verify(ctx context.Context, signatures registry.Repository, reference, file string) error {
	certificate, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	parsed, err := x509.ParseCertificate(certificate)
	if err != nil {
		return err
	}
	trusting, err := verifier.New(policy(), trusted{parsed}, nil)
	if err != nil {
		return err
	}
	options := notation.VerifyOptions{ArtifactReference: reference, MaxSignatureAttempts: 1}
	_, _, err = notation.Verify(ctx, trusting, signatures, options)
	return err
}

func verifyByFlux(ctx context.Context, image, file string) (string, error) {
	certificate, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	config, err := os.ReadFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"))
	if err != nil {
		return "", err
	}
	secret := corev1.Secret{
		Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: config},
	}
	return verified.Digest(ctx, secret, image, policy(), certificate)
}

func policy() *trustpolicy.Document {
	return &trustpolicy.Document{
		Version: "1.0",
		TrustPolicies: []trustpolicy.TrustPolicy{{
			Name:                  "test",
			RegistryScopes:        []string{"*"},
			SignatureVerification: trustpolicy.SignatureVerification{VerificationLevel: trustpolicy.LevelStrict.Name},
			TrustStores:           []string{"ca:test"},
			TrustedIdentities:     []string{"*"},
		}},
	}
}

// trusted is the one certificate that is trusted.
type trusted struct{ certificate *x509.Certificate }

func (t trusted) GetCertificates(context.Context, truststore.Type, string) ([]*x509.Certificate, error) {
	return []*x509.Certificate{t.certificate}, nil
}
