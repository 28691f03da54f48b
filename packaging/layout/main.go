// Writes an OCI layout of an image for several architectures, from their roots, and prints the digest of its index.
//
// The same roots and flags give the same bytes: every file belongs to 0:0 and is as old as -created.
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// words is a flag that may be there several times.
type words []string

func (w *words) String() string { return strings.Join(*w, " ") }

func (w *words) Set(word string) error {
	*w = append(*w, word)
	return nil
}

// pairs is a flag KEY=VALUE that may be there several times.
type pairs map[string]string

func (p pairs) String() string { return fmt.Sprint(map[string]string(p)) }

func (p pairs) Set(pair string) error {
	key, value, found := strings.Cut(pair, "=")
	if !found {
		return errors.New("write KEY=VALUE")
	}
	p[key] = value
	return nil
}

// about is what the images of all architectures have alike.
type about struct {
	config  v1.Config
	created time.Time
	labels  pairs
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "layout:", err)
		os.Exit(1)
	}
}

func run() error {
	var entryPoint, arguments, ports words
	labels := pairs{}
	flag.Var(&entryPoint, "entry-point", "a word of the entry point")
	flag.Var(&arguments, "argument", "a default argument")
	flag.Var(&ports, "port", "a port, as 8443/tcp")
	flag.Var(labels, "label", "KEY=VALUE: a label of each image, and an annotation of the index and its manifests")
	user := flag.String("user", "", "user and group")
	created := flag.Int64("created", 0, "when, in seconds since 1970")
	name := flag.String("name", "", "the name of the index in the layout, as skopeo wants it: a tag")
	output := flag.String("output", "", "the directory, which must not exist")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: layout [FLAGS] ARCHITECTURE=ROOT...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 || *output == "" {
		flag.Usage()
		os.Exit(2)
	}
	exposed := map[string]struct{}{}
	for _, port := range ports {
		exposed[port] = struct{}{}
	}
	all := about{
		config: v1.Config{
			User: *user, ExposedPorts: exposed, Entrypoint: entryPoint, Cmd: arguments, Labels: labels,
			Env: []string{"PATH=/"}, WorkingDir: "/",
		},
		created: time.Unix(*created, 0).UTC(),
		labels:  labels,
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, argument := range flag.Args() {
		architecture, root, found := strings.Cut(argument, "=")
		if !found {
			return fmt.Errorf("%s is not ARCHITECTURE=ROOT", argument)
		}
		image, err := all.image(architecture, root)
		if err != nil {
			return fmt.Errorf("%s: %w", architecture, err)
		}
		platform := &v1.Platform{OS: "linux", Architecture: architecture}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: plain{image}, Descriptor: v1.Descriptor{Platform: platform}})
	}
	annotated, ok := mutate.Annotations(index, labels).(v1.ImageIndex)
	if !ok {
		return errors.New("the annotated index is none")
	}
	return write(*output, *name, annotated)
}

// plain is an image whose entry in an index has no artifactType, which is for what is no image. Tools of image-spec 1.0, as
// skopeo of Debian 12, drop the field when they copy the index, and with that change its digest.
type plain struct{ v1.Image }

// ArtifactType is none.
func (plain) ArtifactType() (string, error) { return "", nil }

// image is a root as the only layer of an image.
func (a about) image(architecture, root string) (v1.Image, error) {
	files, err := a.archive(root)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: a.created}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS: "linux", Architecture: architecture, Config: a.config, Created: created,
		RootFS: v1.RootFS{Type: "layers"},
	}); err != nil {
		return nil, err
	}
	if image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{Created: created}}); err != nil {
		return nil, err
	}
	annotated, ok := mutate.Annotations(image, a.labels).(v1.Image)
	if !ok {
		return nil, errors.New("the annotated image is none")
	}
	return annotated, nil
}

// archive is a tar archive of all below a root, in the order of the names.
func (a about) archive(root string) ([]byte, error) {
	var archived bytes.Buffer
	writer := tar.NewWriter(&archived)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		return a.add(writer, root, path, entry)
	})
	if err := errors.Join(err, writer.Close()); err != nil {
		return nil, err
	}
	return archived.Bytes(), nil
}

func (a about) add(writer *tar.Writer, root, path string, entry fs.DirEntry) error {
	name, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: filepath.ToSlash(name), Mode: 0o755, ModTime: a.created, Format: tar.FormatUSTAR}
	switch {
	case entry.IsDir():
		header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		return writer.WriteHeader(header)
	case entry.Type().IsRegular():
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		header.Typeflag, header.Mode, header.Size = tar.TypeReg, int64(info.Mode().Perm()), int64(len(content))
		if err := writer.WriteHeader(header); err != nil {
			return err
		}
		_, err = writer.Write(content)
		return err
	default:
		return fmt.Errorf("%s is neither a file nor a directory", path)
	}
}

// write fills a directory with the layout, whose index.json names only the index of the image.
func write(directory, name string, index v1.ImageIndex) error {
	if _, err := os.Lstat(directory); err == nil {
		return fmt.Errorf("%s is there already", directory)
	}
	path, err := layout.Write(directory, empty.Index)
	if err != nil {
		return err
	}
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": name})); err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	_, err = fmt.Println(digest)
	return err
}
