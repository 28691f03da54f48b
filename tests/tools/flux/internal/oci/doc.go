// Package oci is verifier.go of source-controller's own package, which ../../../overlay adds.
package oci
