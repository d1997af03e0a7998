package scoring

import (
	"context"
	"os"
	"reflect"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// SERVICE is the address of a server with the models "arithmetic" (a + b, a - b) and "means".
func client(t *testing.T, service string) (*Client, context.Context) {
	c, err := New(os.Getenv("SERVICE"), Options{Service: service})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(func() { cancel(); c.Close() })
	return c, ctx
}

func pair(t *testing.T, values ...float32) *Tensor {
	tensor, err := Floats(values, int64(len(values)/2), 2)
	if err != nil {
		t.Fatal(err)
	}
	return tensor
}

func TestFloats(t *testing.T) {
	c, ctx := client(t, "arithmetic")
	inputs := map[string]*Tensor{"a": pair(t, 1, 2, 3, 4), "b": pair(t, 10, 20, 30, 40)}
	answer, err := c.Predict(ctx, inputs, "sum:0")
	if err != nil {
		t.Fatal(err)
	}
	expected := map[string]*Tensor{"sum:0": {Shape: []int64{2, 2}, Values: []float32{11, 22, 33, 44}}}
	if !reflect.DeepEqual(answer, expected) {
		t.Errorf("expected %v, got %v", expected, answer)
	}
	if _, err = Floats([]float32{1}, 2, 2); err == nil {
		t.Error("expected an error for one value in the shape [2 2]")
	}
}

func TestRefusal(t *testing.T) {
	c, ctx := client(t, "arithmetic")
	_, err := c.Predict(ctx, map[string]*Tensor{"a": pair(t, 1, 2)})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("expected InvalidArgument, got %v", err)
	}
}

func TestBatchOfPictures(t *testing.T) {
	c, ctx := client(t, "means")
	picture, err := os.ReadFile(os.Getenv("PICTURE"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.ScoreImages(ctx, picture, picture)
	if err != nil {
		t.Fatal(err)
	}
	means := answer["output_alias"]
	if !reflect.DeepEqual(means.Shape, []int64{2, 3}) || !reflect.DeepEqual(means.Values[:3], means.Values[3:]) {
		t.Errorf("expected the same three means twice, got %v", means)
	}
}
