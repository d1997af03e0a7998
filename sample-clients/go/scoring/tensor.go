package scoring

import (
	"encoding/binary"
	"fmt"
	"math"

	tf "amlrealtimeai/sample-clients/go/tensorflow"
)

// Tensor holds float32 values in row order, or encoded pictures (Strings) where Values is nil.
type Tensor struct {
	Shape   []int64
	Values  []float32
	Strings [][]byte
}

// Images is a batch of encoded pictures (JPEG or PNG files as they are).
func Images(files ...[]byte) *Tensor {
	return &Tensor{Shape: []int64{int64(len(files))}, Strings: files}
}

// Floats is a tensor of float32 values; their number must be the product of the shape.
func Floats(values []float32, shape ...int64) (*Tensor, error) {
	count := int64(1)
	for _, size := range shape {
		count *= size
	}
	if count != int64(len(values)) {
		return nil, fmt.Errorf("expected %d values for the shape %v, got %d", count, shape, len(values))
	}
	return &Tensor{Shape: shape, Values: values}, nil
}

func (t *Tensor) proto() *tf.TensorProto {
	shape := &tf.TensorShapeProto{}
	for _, size := range t.Shape {
		shape.Dim = append(shape.Dim, &tf.TensorShapeProto_Dim{Size: size})
	}
	if t.Values == nil {
		return &tf.TensorProto{Dtype: tf.DataType_DT_STRING, TensorShape: shape, StringVal: t.Strings}
	}
	content := make([]byte, 4*len(t.Values))
	for i, value := range t.Values {
		binary.LittleEndian.PutUint32(content[4*i:], math.Float32bits(value))
	}
	return &tf.TensorProto{Dtype: tf.DataType_DT_FLOAT, TensorShape: shape, TensorContent: content}
}

// fromProto reads a float answer; tensor_content wins over float_val, whose last value repeats.
func fromProto(p *tf.TensorProto) (*Tensor, error) {
	if p.GetDtype() != tf.DataType_DT_FLOAT {
		return nil, fmt.Errorf("expected an answer of DT_FLOAT, got %s", p.GetDtype())
	}
	t := &Tensor{}
	count := int64(1)
	for _, dim := range p.GetTensorShape().GetDim() {
		t.Shape = append(t.Shape, dim.GetSize())
		count *= dim.GetSize()
	}
	content := p.GetTensorContent()
	if len(content) == 0 {
		t.Values = p.GetFloatVal()
		if len(t.Values) == 0 && count > 0 {
			t.Values = []float32{0}
		}
		for int64(len(t.Values)) < count {
			t.Values = append(t.Values, t.Values[len(t.Values)-1])
		}
	} else if int64(len(content)) == 4*count {
		t.Values = make([]float32, count)
		for i := range t.Values {
			t.Values[i] = math.Float32frombits(binary.LittleEndian.Uint32(content[4*i:]))
		}
	}
	if int64(len(t.Values)) != count {
		return nil, fmt.Errorf("expected %d values for the shape %v, got %d bytes", count, t.Shape, len(content))
	}
	return t, nil
}

func requestInputs(inputs map[string]*Tensor) map[string]*tf.TensorProto {
	protos := map[string]*tf.TensorProto{}
	for name, tensor := range inputs {
		protos[name] = tensor.proto()
	}
	return protos
}
