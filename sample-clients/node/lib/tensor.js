'use strict';

/**
 * A tensor: `shape` (array of numbers) with `values` (Float32Array, row order) or `strings` (array of Buffers).
 * @typedef {{shape: number[], values?: Float32Array, strings?: Buffer[]}} Tensor
 */

/** A batch of encoded pictures (JPEG or PNG files as they are). */
function images(...files) {
  return { shape: [files.length], strings: files };
}

/** A tensor of float32 values; their number must be the product of the shape. */
function floats(values, shape) {
  const count = shape.reduce((product, size) => product * size, 1);
  if (values.length !== count) {
    throw new RangeError(`expected ${count} values for the shape [${shape}], got ${values.length}`);
  }
  return { shape, values: Float32Array.from(values) };
}

function toProto(tensor) {
  const shape = { dim: tensor.shape.map((size) => ({ size })) };
  if (tensor.strings) return { dtype: 'DT_STRING', tensorShape: shape, stringVal: tensor.strings };
  const content = Buffer.alloc(4 * tensor.values.length);
  tensor.values.forEach((value, i) => content.writeFloatLE(value, 4 * i));
  return { dtype: 'DT_FLOAT', tensorShape: shape, tensorContent: content };
}

/** Reads a float answer; tensor_content wins over float_val, whose last value repeats. */
function fromProto(proto) {
  if (proto.dtype !== 'DT_FLOAT') throw new TypeError(`expected an answer of DT_FLOAT, got ${proto.dtype}`);
  const shape = proto.tensorShape.dim.map((dim) => Number(dim.size));
  const count = shape.reduce((product, size) => product * size, 1);
  const content = proto.tensorContent;
  const values = new Float32Array(count);
  if (content.length === 0) {
    const given = proto.floatVal.length ? proto.floatVal : [0];
    values.forEach((_, i) => { values[i] = given[Math.min(i, given.length - 1)]; });
  } else if (content.length === 4 * count) {
    values.forEach((_, i) => { values[i] = content.readFloatLE(4 * i); });
  } else {
    throw new RangeError(`expected ${count} values for the shape [${shape}], got ${content.length} bytes`);
  }
  return { shape, values };
}

module.exports = { images, floats, toProto, fromProto };
