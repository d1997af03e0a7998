#!/usr/bin/env node
'use strict';

const fs = require('node:fs');
const { parseArgs } = require('node:util');
const grpc = require('@grpc/grpc-js');
const { ScoringClient } = require('../lib/client');

const USAGE = `Usage: score.js [options] HOST:PORT PICTURE
  --tls               use TLS
  --root FILE         PEM file of the certificates to trust
  --key KEY           the service's key (default: $AMLREALTIMEAI_KEY)
  --service NAME      which service of the address
  --timeout SECONDS   for the whole call, retries included (default 10)
  --top K             how many classes (default 5)
  --labels FILE       JSON: a list of names, or an object from class number to name
  --json              print every output as JSON`;

function parsed() {
  const text = { type: 'string' };
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      tls: { type: 'boolean' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' },
      root: text, key: text, service: text, labels: text,
      timeout: { ...text, default: '10' }, top: { ...text, default: '5' },
    },
  });
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  const numbers = { timeout: Number(values.timeout), top: Number(values.top) };
  if (positionals.length !== 2) throw new TypeError(`expected HOST:PORT and PICTURE, got ${positionals.length} words`);
  if (!(numbers.timeout > 0) || !(numbers.top >= 1)) throw new TypeError('--timeout and --top: expected positive numbers');
  return { ...values, ...numbers, address: positionals[0], picture: positionals[1] };
}

function show(outputs, options) {
  const labels = options.labels ? JSON.parse(fs.readFileSync(options.labels, 'utf8')) : {};
  for (const [name, { shape, values }] of Object.entries(outputs)) {
    console.log(name, `[${shape}]`);
    const order = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, options.top);
    for (const i of order) console.log(`  ${values[i].toFixed(4).padStart(8)}  ${labels[i] ?? `class ${i}`}`);
  }
}

async function main() {
  let options;
  try {
    options = parsed();
  } catch (error) {
    console.error(`score: ${error.message}\n${USAGE}`);
    process.exit(2);
  }
  const key = options.key ?? process.env.AMLREALTIMEAI_KEY;
  let client;
  try {
    const picture = fs.readFileSync(options.picture);
    client = new ScoringClient(options.address, { ...options, key });
    const outputs = await client.scoreImages([picture], { timeout: options.timeout });
    if (options.json) {
      const plain = Object.entries(outputs).map(([name, t]) => [name, { shape: t.shape, values: Array.from(t.values) }]);
      console.log(JSON.stringify(Object.fromEntries(plain)));
    } else {
      show(outputs, options);
    }
  } catch (error) {
    const refused = grpc.status[error.code];
    console.error(refused ? `score: ${refused}: ${error.details}` : `score: ${error.message}`);
    process.exitCode = 1;
  } finally {
    client?.close();
  }
}

main();
