// constant answers every POST with the content of a file, over TLS and HTTP/2: what is left of a webhook in Go when it decides
// nothing.
package main

import (
	"flag"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8443", "where to listen")
	certificate := flag.String("tls-cert", "tls.crt", "the certificate")
	key := flag.String("tls-key", "tls.key", "its key")
	file := flag.String("answer", "answer.json", "what is answered")
	flag.Parse()

	answer, err := os.ReadFile(*file)
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /mutate", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	})
	log.Fatal(http.ListenAndServeTLS(*listen, *certificate, *key, nil))
}
