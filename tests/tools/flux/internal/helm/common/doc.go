// Package common is string_resource.go of source-controller's own package, which ../../../../overlay adds.
package common
