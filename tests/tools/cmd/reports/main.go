// Reads a List of Reports, as JSON, as strictly as the Go types of openreports.io allow, and prints how many there are.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
)

func main() {
	var list struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Items      []v1alpha1.Report `json:"items"`
	}
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&list); err != nil {
		fmt.Fprintln(os.Stderr, "reports:", err)
		os.Exit(1)
	}
	fmt.Println(len(list.Items))
}
