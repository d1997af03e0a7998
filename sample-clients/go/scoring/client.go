// Package scoring asks a deployed model over gRPC: the service of amlrealtimeai, or any TensorFlow Serving.
package scoring

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	serving "amlrealtimeai/sample-clients/go/tensorflow_serving"
)

// MaxMessageBytes is the service's own limit for one message.
const MaxMessageBytes = 64 << 20

// Only UNAVAILABLE is retried: nobody was reached, so nothing was computed. Every address of the name takes its turn.
const serviceConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{"service": "tensorflow.serving.PredictionService"}],
    "retryPolicy": {
      "maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "1.6s", "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }]
}`

// Options of a connection; the zero value is plaintext without a key.
type Options struct {
	TLS      bool   // encrypt, and check the server's certificate
	RootFile string // PEM file of the certificates to trust; empty: those of the system
	Key      string // the service's key, sent with every call
	Service  string // which service of the address, where it has several
}

// Client asks one service. It is safe for use by several goroutines.
type Client struct {
	connection *grpc.ClientConn
	stub       serving.PredictionServiceClient
}

// key is sent per call, as "authorization: Bearer <key>"; Brainwave's samples sent it without TLS, too.
type key struct {
	value, service string
}

func (k key) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	metadata := map[string]string{}
	if k.value != "" {
		metadata["authorization"] = "Bearer " + k.value
	}
	if k.service != "" {
		metadata["x-ms-aml-grpc-service-route"] = "/api/v1/service/" + k.service
	}
	return metadata, nil
}

func (k key) RequireTransportSecurity() bool { return false }

// New prepares a client of "host:port"; the connection is opened by the first call.
func New(address string, options Options) (*Client, error) {
	dial := []grpc.DialOption{
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithPerRPCCredentials(key{options.Key, options.Service}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)),
	}
	if options.TLS {
		roots, err := rootsOf(options.RootFile)
		if err != nil {
			return nil, err
		}
		config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		dial = append(dial, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	} else {
		dial = append(dial, grpc.WithInsecure())
	}
	connection, err := grpc.Dial("dns:///"+address, dial...)
	if err != nil {
		return nil, err
	}
	return &Client{connection, serving.NewPredictionServiceClient(connection)}, nil
}

func rootsOf(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: expected certificates in PEM form, found none", file)
	}
	return pool, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.connection.Close() }

// Predict sends tensors by input name and returns tensors by output name; outputs empty asks for all of them.
// The deadline is the context's. A refusal is a gRPC status: see google.golang.org/grpc/status.
func (c *Client) Predict(
	ctx context.Context, inputs map[string]*Tensor, outputs ...string,
) (map[string]*Tensor, error) {
	request := &serving.PredictRequest{OutputFilter: outputs}
	request.Inputs = requestInputs(inputs)
	response, err := c.stub.Predict(ctx, request)
	if err != nil {
		return nil, err
	}
	answer := map[string]*Tensor{}
	for name, proto := range response.GetOutputs() {
		if answer[name], err = fromProto(proto); err != nil {
			return nil, fmt.Errorf("output %s: %w", name, err)
		}
	}
	return answer, nil
}

// ScoreImages sends encoded pictures as the batch "images" and returns the outputs by name.
func (c *Client) ScoreImages(ctx context.Context, files ...[]byte) (map[string]*Tensor, error) {
	return c.Predict(ctx, map[string]*Tensor{"images": Images(files...)})
}
