package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// pullSecret is a Secret as kubectl prints it, with one login under one key.
func pullSecret(name, key string) string {
	config := fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":"secret"}}}`, key, name)
	return fmt.Sprintf(
		`{"metadata":{"name":%q},"type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":%q}}`,
		name, base64.StdEncoding.EncodeToString([]byte(config)))
}

func TestWhatTheKubeletUses(t *testing.T) {
	for _, test := range []struct {
		image string
		keys  []string
		want  []string
	}{
		{"registry.example/app:v1", []string{"registry.example"}, []string{"registry.example"}},
		{"registry.example/app:v1", []string{"other.example"}, nil},
		{"registry.example/app@sha256:" + strings.Repeat("0", 64), []string{"https://registry.example/v2/"}, []string{"https://registry.example/v2/"}},
		{"registry.example:443/app", []string{"registry.example"}, nil},
		{"registry.example:443/app", []string{"registry.example:443"}, []string{"registry.example:443"}},
		{"Registry.example/app", []string{"registry.example"}, nil},
		{"registry.example/team/app", []string{"registry.example", "registry.example/team"}, []string{"registry.example/team", "registry.example"}},
		{"registry.example/team/app", []string{"registry.example/other"}, nil},
	} {
		var pullSecrets []string
		for _, key := range test.keys {
			pullSecrets = append(pullSecrets, pullSecret(key, key))
		}
		var output bytes.Buffer
		input := strings.NewReader("[" + strings.Join(pullSecrets, ",") + "]")
		if err := run(test.image, "-", input, &output); err != nil {
			t.Fatalf("%s: %v", test.image, err)
		}
		var got answer
		if err := json.Unmarshal(output.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, found := range got.Credentials {
			if found.Password != "secret" || found.Secret != found.Username {
				t.Errorf("%s: %+v", test.image, found)
			}
			names = append(names, found.Username)
		}
		if strings.Join(names, " ") != strings.Join(test.want, " ") {
			t.Errorf("%s with %v: got %v, want %v", test.image, test.keys, names, test.want)
		}
	}
}

func TestBadInputIsAnError(t *testing.T) {
	for _, test := range []struct{ image, input string }{
		{"registry.example/UPPER", "[]"},
		{"registry.example/app", "{"},
	} {
		if err := run(test.image, "-", strings.NewReader(test.input), &bytes.Buffer{}); err == nil {
			t.Errorf("%+v: no error", test)
		}
	}
}
