'use strict';

const fs = require('node:fs');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const { toProto, fromProto, images } = require('./tensor');

const PROTOS = path.join(__dirname, '..', '..', '..', 'protos');
const MAX_MESSAGE_BYTES = 64 << 20; // the service's own limit for one message

// Only UNAVAILABLE is retried: nobody was reached, so nothing was computed. Every address of the name takes its turn.
const SERVICE_CONFIG = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [{
    name: [{ service: 'tensorflow.serving.PredictionService' }],
    retryPolicy: {
      maxAttempts: 5,
      initialBackoff: '0.1s',
      maxBackoff: '1.6s',
      backoffMultiplier: 2,
      retryableStatusCodes: ['UNAVAILABLE'],
    },
  }],
};

function loadService() {
  const definition = protoLoader.loadSync('tensorflow_serving/apis/prediction_service.proto', {
    includeDirs: [PROTOS], enums: String, longs: String, defaults: true,
  });
  return grpc.loadPackageDefinition(definition).tensorflow.serving.PredictionService;
}

/** Asks one service; the connection is opened by the first call. */
class ScoringClient {
  /**
   * @param {string} address "host:port"
   * @param {{tls?: boolean, root?: string, key?: string, service?: string}} options
   *   tls: encrypt, and check the server's certificate; root: PEM file of the certificates to trust (default: the
   *   well-known ones); key: the service's key, sent with every call; service: which one of the address
   */
  constructor(address, options = {}) {
    const root = options.root ? fs.readFileSync(options.root) : null;
    const credentials = options.tls ? grpc.credentials.createSsl(root) : grpc.credentials.createInsecure();
    this.options = options;
    this.stub = new (loadService())(address, credentials, {
      'grpc.service_config': JSON.stringify(SERVICE_CONFIG),
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
    });
  }

  /** Ends the connection. */
  close() {
    this.stub.close();
  }

  /**
   * Sends tensors by input name; resolves to tensors by output name (`outputs` empty: all of them).
   * A refusal rejects with grpc.ServiceError: `code` is a grpc.status, `details` the service's sentence.
   */
  predict(inputs, { outputs = [], timeout = 10 } = {}) {
    const protos = Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, toProto(tensor)]));
    const metadata = new grpc.Metadata();
    if (this.options.key) metadata.set('authorization', `Bearer ${this.options.key}`);
    if (this.options.service) metadata.set('x-ms-aml-grpc-service-route', `/api/v1/service/${this.options.service}`);
    const deadline = new Date(Date.now() + 1000 * timeout);
    return new Promise((resolve, reject) => {
      this.stub.predict({ inputs: protos, outputFilter: outputs }, metadata, { deadline }, (error, response) => {
        if (error) return reject(error);
        try {
          return resolve(Object.fromEntries(
            Object.entries(response.outputs).map(([name, proto]) => [name, fromProto(proto)]),
          ));
        } catch (problem) {
          return reject(problem);
        }
      });
    });
  }

  /** Sends encoded pictures as the batch "images". */
  scoreImages(files, options = {}) {
    return this.predict({ images: images(...files) }, options);
  }
}

module.exports = { ScoringClient, MAX_MESSAGE_BYTES };
