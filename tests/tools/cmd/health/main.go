// Command health says of each object of a List on its standard input what tools for GitOps make of its status: kstatus,
// which Flux and kpt use, and a script in Lua, as Argo CD runs it. One JSON object a line.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// verdict is what is reported about an object.
type verdict struct {
	Name    string `json:"name"`
	Kstatus string `json:"kstatus"`
	ArgoCD  string `json:"argoCD"`
	Message string `json:"message"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: health SCRIPT < LIST")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run(path string, in io.Reader, out io.Writer) error {
	script, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var list unstructured.UnstructuredList
	if err := list.UnmarshalJSON(text); err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	for i := range list.Items {
		object := &list.Items[i]
		computed, err := status.Compute(object)
		if err != nil {
			return err
		}
		health, message, err := assess(string(script), object.Object)
		if err != nil {
			return err
		}
		said := verdict{object.GetName(), computed.Status.String(), health, message}
		if err := encoder.Encode(said); err != nil {
			return err
		}
	}
	return nil
}

// assess runs a script with what Argo CD gives one by default: the object, and neither strings nor files nor the clock.
func assess(script string, object map[string]any) (health, message string, err error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.BaseLibName: lua.OpenBase,
		lua.TabLibName:  lua.OpenTable,
	} {
		state.Push(state.NewFunction(open))
		state.Push(lua.LString(name))
		state.Call(1, 0)
	}
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		return "", "", err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", errors.New("the script returned no table")
	}
	text := func(field string) string { return lua.LVAsString(table.RawGetString(field)) }
	return text("status"), text("message"), nil
}

// value is a value of JSON as a script sees it.
func value(state *lua.LState, from any) lua.LValue {
	switch from := from.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, field := range from {
			table.RawSetString(key, value(state, field))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, item := range from {
			table.Append(value(state, item))
		}
		return table
	case string:
		return lua.LString(from)
	case bool:
		return lua.LBool(from)
	case int64:
		return lua.LNumber(from)
	case float64:
		return lua.LNumber(from)
	default:
		return lua.LNil
	}
}
