// Runs LogQL over the lines of a file, with Loki's own parser and pipeline.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"

	"github.com/grafana/loki/v3/pkg/logql/syntax"
	"github.com/prometheus/prometheus/model/labels"
)

func main() {
	log.SetFlags(0)
	query, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	lines, err := os.Open(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	expr, err := syntax.ParseExpr(string(query))
	if err != nil {
		log.Fatal(err)
	}
	selector, ok := expr.(syntax.LogSelectorExpr)
	if !ok {
		sample, ok := expr.(syntax.SampleExpr)
		if !ok {
			log.Fatalf("neither of logs nor of samples: %s", expr)
		}
		if selector, err = sample.Selector(); err != nil {
			log.Fatal(err)
		}
	}
	pipeline, err := selector.Pipeline()
	if err != nil {
		log.Fatal(err)
	}
	stream := pipeline.ForStream(labels.FromStrings("namespace", "pullpass-system", "container", "pullpass"))
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		if line, _, ok := stream.Process(0, scanner.Bytes(), labels.EmptyLabels()); ok {
			fmt.Println(string(line))
		}
	}
	if err := scanner.Err(); err != nil {
		log.Fatal(err)
	}
}
