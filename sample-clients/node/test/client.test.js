'use strict';

// SERVICE is the address of a server with the models "arithmetic" (a + b, a - b) and "means".
const assert = require('node:assert/strict');
const fs = require('node:fs');
const test = require('node:test');
const grpc = require('@grpc/grpc-js');
const { ScoringClient } = require('../lib/client');
const { floats } = require('../lib/tensor');

async function asking(service, question) {
  const client = new ScoringClient(process.env.SERVICE, { service });
  try {
    return await question(client);
  } finally {
    client.close();
  }
}

test('floats', async () => {
  const inputs = { a: floats([1, 2, 3, 4], [2, 2]), b: floats([10, 20, 30, 40], [2, 2]) };
  const answer = await asking('arithmetic', (client) => client.predict(inputs, { outputs: ['sum:0'] }));
  assert.deepEqual(answer, { 'sum:0': { shape: [2, 2], values: Float32Array.of(11, 22, 33, 44) } });
  assert.throws(() => floats([1], [2, 2]), /expected 4 values for the shape \[2,2\], got 1/);
});

test('a refusal has a code', async () => {
  const incomplete = asking('arithmetic', (client) => client.predict({ a: floats([1, 2], [1, 2]) }));
  await assert.rejects(incomplete, (error) => error.code === grpc.status.INVALID_ARGUMENT);
});

test('a batch of pictures', async () => {
  const picture = fs.readFileSync(process.env.PICTURE);
  const { output_alias: means } = await asking('means', (client) => client.scoreImages([picture, picture]));
  assert.deepEqual(means.shape, [2, 3]);
  assert.deepEqual(means.values.slice(0, 3), means.values.slice(3));
});
