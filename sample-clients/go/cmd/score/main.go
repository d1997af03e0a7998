// Score sends a picture to a service and prints the most likely classes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sort"
	"time"

	"google.golang.org/grpc/status"

	"amlrealtimeai/sample-clients/go/scoring"
)

type answer struct {
	Shape  []int64   `json:"shape"`
	Values []float32 `json:"values"`
}

func main() {
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "Usage: score [options] HOST:PORT PICTURE\n")
		flag.PrintDefaults()
	}
	var options scoring.Options
	flag.BoolVar(&options.TLS, "tls", false, "use TLS")
	flag.StringVar(&options.RootFile, "root", "", "PEM file of the certificates to trust")
	flag.StringVar(&options.Key, "key", os.Getenv("AMLREALTIMEAI_KEY"), "the service's key (default: $AMLREALTIMEAI_KEY)")
	flag.StringVar(&options.Service, "service", "", "which service of the address")
	timeout := flag.Float64("timeout", 10, "seconds for the whole call, retries included")
	top := flag.Int("top", 5, "how many classes")
	labels := flag.String("labels", "", "JSON file: a list of names, or an object from class number to name")
	asJSON := flag.Bool("json", false, "print every output as JSON")
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	outputs, err := score(flag.Arg(0), flag.Arg(1), options, time.Duration(*timeout*float64(time.Second)))
	if err == nil && *asJSON {
		err = json.NewEncoder(os.Stdout).Encode(outputs)
	} else if err == nil {
		err = show(outputs, *labels, *top)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, describe(err))
		os.Exit(1)
	}
}

func score(address, file string, options scoring.Options, timeout time.Duration) (map[string]answer, error) {
	picture, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	client, err := scoring.New(address, options)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	tensors, err := client.ScoreImages(ctx, picture)
	if err != nil {
		return nil, err
	}
	outputs := map[string]answer{}
	for name, tensor := range tensors {
		outputs[name] = answer{tensor.Shape, tensor.Values}
	}
	return outputs, nil
}

func show(outputs map[string]answer, labels string, top int) error {
	name, err := labelOf(labels)
	if err != nil {
		return err
	}
	for output, tensor := range outputs {
		fmt.Println(output, tensor.Shape)
		order := make([]int, len(tensor.Values))
		for i := range order {
			order[i] = i
		}
		sort.SliceStable(order, func(a, b int) bool { return tensor.Values[order[a]] > tensor.Values[order[b]] })
		for i := 0; i < top && i < len(order); i++ {
			fmt.Printf("  %8.4f  %s\n", tensor.Values[order[i]], name(order[i]))
		}
	}
	return nil
}

func labelOf(file string) (func(int) string, error) {
	number := func(class int) string { return fmt.Sprint("class ", class) }
	if file == "" {
		return number, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list []string
	if json.Unmarshal(text, &list) == nil {
		return func(class int) string {
			if class < len(list) {
				return list[class]
			}
			return number(class)
		}, nil
	}
	table := map[string]string{}
	if err := json.Unmarshal(text, &table); err != nil {
		return nil, fmt.Errorf("%s: expected a JSON list or object of names: %w", file, err)
	}
	return func(class int) string {
		if found, ok := table[fmt.Sprint(class)]; ok {
			return found
		}
		return number(class)
	}, nil
}

// describe names a refusal's gRPC code the way grpc.StatusCode does, so that it can be looked up.
func describe(err error) string {
	var refused interface{ GRPCStatus() *status.Status }
	if errors.As(err, &refused) {
		return fmt.Sprintf("score: %s: %s", refused.GRPCStatus().Code(), refused.GRPCStatus().Message())
	}
	return "score: " + err.Error()
}
