// Package platforms is platforms.go of Tekton Pipelines' own package, which ../../../overlay adds.
package platforms
