// Command keyring answers which credentials a kubelet would offer to a registry for an image.
//
// It reads a JSON array of Secrets from a file, or from standard input when the file is "-", and
// goes the kubelet's own way with them: its image name parser, its keyring.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"k8s.io/kubernetes/pkg/credentialprovider/secrets"
	"k8s.io/kubernetes/pkg/util/parsers"
)

// credential is one login, in the order in which the kubelet tries them.
type credential struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Secret   string `json:"secret,omitempty"`
}

// answer is what is printed.
type answer struct {
	Image       string       `json:"image"`
	Repository  string       `json:"repository"`
	Credentials []credential `json:"credentials"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: keyring IMAGE SECRETS.json|-")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "keyring:", err)
		os.Exit(1)
	}
}

func run(image, path string, stdin io.Reader, stdout io.Writer) (err error) {
	input := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		input = file
	}
	var pullSecrets []v1.Secret
	if err := json.NewDecoder(input).Decode(&pullSecrets); err != nil {
		return fmt.Errorf("reading the Secrets: %w", err)
	}
	result, err := lookup(image, pullSecrets)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(result)
}

func lookup(image string, pullSecrets []v1.Secret) (*answer, error) {
	// The kubelet strips tag and digest before it asks, which matters to keys with a path.
	repository, _, _, err := parsers.ParseImageName(image)
	if err != nil {
		return nil, err
	}
	// A node's own logins would make the answer depend on the machine that asks.
	none := &credentialprovider.BasicDockerKeyring{}
	keyring, err := secrets.MakeDockerKeyring(pullSecrets, none)
	if err != nil {
		return nil, err
	}
	found, _ := keyring.Lookup(repository)
	result := &answer{Image: image, Repository: repository, Credentials: []credential{}}
	for _, entry := range found {
		login := credential{Username: entry.Username, Password: entry.Password}
		if entry.Source != nil && entry.Source.Secret != nil {
			login.Secret = entry.Source.Secret.Name
		}
		result.Credentials = append(result.Credentials, login)
	}
	return result, nil
}
