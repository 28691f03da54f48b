// Command program is all that runs in the Pods of the tests, the pause container included: it needs no file but its own.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage:
program           waits for SIGTERM or SIGINT
program cat FILE  prints a file`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 0:
		// The kernel ignores signals to PID 1 of a container that it has not asked for.
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		<-signals
		return nil
	case len(args) == 2 && args[0] == "cat":
		content, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(content)
		return err
	default:
		return errors.New(usage)
	}
}
