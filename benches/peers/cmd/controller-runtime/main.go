// controller-runtime is a webhook that does the job of pullpass as the libraries for it are meant to be used: it decodes the Pod
// into its type, changes it, and has the patch made from both.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/go-logr/logr"
)

// secrets has the pull secret of each registry that is attached.
var secrets = map[string]string{"myregistry.azurecr.io": "pullpass-myregistry"}

type injector struct{ decoder admission.Decoder }

func (i *injector) Handle(_ context.Context, request admission.Request) admission.Response {
	pod := &corev1.Pod{}
	if err := i.decoder.Decode(request, pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	before := len(pod.Spec.ImagePullSecrets)
	for _, image := range images(pod) {
		host, _, _ := strings.Cut(image, "/")
		name, ok := secrets[host]
		if !ok {
			continue
		}
		secret := corev1.LocalObjectReference{Name: name}
		if !slices.Contains(pod.Spec.ImagePullSecrets, secret) {
			pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, secret)
		}
	}
	if len(pod.Spec.ImagePullSecrets) == before {
		return admission.Allowed("")
	}
	changed, err := json.Marshal(pod)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.PatchResponseFromRaw(request.Object.Raw, changed)
}

func images(pod *corev1.Pod) []string {
	var images []string
	for _, container := range pod.Spec.InitContainers {
		images = append(images, container.Image)
	}
	for _, container := range pod.Spec.Containers {
		images = append(images, container.Image)
	}
	for _, container := range pod.Spec.EphemeralContainers {
		images = append(images, container.Image)
	}
	return images
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8443", "where to listen")
	certificate := flag.String("tls-cert", "tls.crt", "the certificate")
	key := flag.String("tls-key", "tls.key", "its key, in the same directory")
	flag.Parse()

	ctrllog.SetLogger(logr.Discard())
	host, port, err := net.SplitHostPort(*listen)
	if err != nil {
		log.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		log.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		log.Fatal(err)
	}
	server := webhook.NewServer(webhook.Options{
		Host:     host,
		Port:     number,
		CertDir:  filepath.Dir(*certificate),
		CertName: filepath.Base(*certificate),
		KeyName:  filepath.Base(*key),
	})
	server.Register("/mutate", &admission.Webhook{Handler: &injector{admission.NewDecoder(scheme)}})
	log.Fatal(server.Start(context.Background()))
}
