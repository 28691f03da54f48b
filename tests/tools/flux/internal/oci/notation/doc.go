// Package notation is notation.go of source-controller's own package, which ../../../../overlay adds.
package notation
