using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;

namespace CSharpClient
{
    /// <summary>A tensor: its shape, and float values in row order or strings (encoded pictures).</summary>
    public sealed class Tensor
    {
        public long[] Shape { get; }
        public float[] Values { get; }
        public byte[][] Strings { get; }

        /// <exception cref="ArgumentException">The number of values is not the product of the shape.</exception>
        public Tensor(float[] values, params long[] shape)
        {
            Shape = shape;
            Values = values;
            if (Count(shape) != values.Length)
                throw new ArgumentException(
                    $"expected {Count(shape)} values for the shape [{string.Join(", ", shape)}], got {values.Length}");
        }

        public Tensor(byte[][] strings)
        {
            Shape = new long[] { strings.Length };
            Strings = strings;
        }

        /// <summary>The values as float[], float[,] and so on; the rank of T has to be the tensor's (float[] takes any).</summary>
        /// <exception cref="InvalidCastException">T is no such array, or has another rank.</exception>
        public T As<T>() where T : class
        {
            var wanted = typeof(T);
            if (wanted == typeof(float[])) return (T)(object)Values;
            if (!wanted.IsArray || wanted.GetElementType() != typeof(float) || wanted.GetArrayRank() != Shape.Length)
                throw new InvalidCastException(
                    $"expected an array of float with {Shape.Length} dimensions for the shape " +
                    $"[{string.Join(", ", Shape)}], got {wanted.Name}");
            var array = Array.CreateInstance(typeof(float), Shape);
            Buffer.BlockCopy(Values, 0, array, 0, sizeof(float) * Values.Length);
            return (T)(object)array;
        }

        internal ProtoWriter ToProto()
        {
            var shape = new ProtoWriter();
            foreach (var size in Shape)
            {
                var dim = new ProtoWriter();
                dim.Varint(TensorShapeDimFields.Size, size);
                shape.Message(TensorShapeProtoFields.Dim, dim);
            }
            var proto = new ProtoWriter();
            proto.Varint(TensorProtoFields.Dtype, (long)(Strings != null ? DataType.DtString : DataType.DtFloat));
            proto.Message(TensorProtoFields.TensorShape, shape);
            if (Strings == null)
            {
                var content = new byte[sizeof(float) * Values.Length];
                Buffer.BlockCopy(Values, 0, content, 0, content.Length);
                proto.Bytes(TensorProtoFields.TensorContent, content);
            }
            else foreach (var item in Strings) proto.Bytes(TensorProtoFields.StringVal, item);
            return proto;
        }

        /// <summary>Reads a float answer; tensor_content wins over float_val, whose last value repeats.</summary>
        internal static Tensor FromProto(byte[] proto)
        {
            var shape = new List<long>();
            var given = new List<float>();
            var content = new byte[0];
            var type = DataType.DtInvalid;
            foreach (var field in ProtoReader.Fields(proto))
            {
                if (field.Number == TensorProtoFields.Dtype) type = (DataType)field.Value;
                else if (field.Number == TensorProtoFields.TensorShape) shape.AddRange(Dims(field.Bytes));
                else if (field.Number == TensorProtoFields.TensorContent) content = field.Bytes;
                else if (field.Number == TensorProtoFields.FloatVal) given.AddRange(Floats(field.Bytes));
            }
            if (type != DataType.DtFloat) throw new InvalidDataException($"expected an answer of DT_FLOAT, got {type}");
            var values = Floats(content);
            if (content.Length == 0)
            {
                if (given.Count == 0) given.Add(0);
                values = Enumerable.Range(0, (int)Count(shape)).Select(i => given[Math.Min(i, given.Count - 1)]).ToArray();
            }
            return new Tensor(values, shape.ToArray());
        }

        private static IEnumerable<long> Dims(byte[] shape)
        {
            return ProtoReader.Fields(shape).Where(field => field.Number == TensorShapeProtoFields.Dim).Select(
                dim => (long)ProtoReader.Fields(dim.Bytes).LastOrDefault(f => f.Number == TensorShapeDimFields.Size).Value);
        }

        private static float[] Floats(byte[] content)
        {
            var values = new float[content.Length / sizeof(float)];
            Buffer.BlockCopy(content, 0, values, 0, sizeof(float) * values.Length);
            return values;
        }

        private static long Count(IEnumerable<long> shape) { return shape.Aggregate(1L, (count, size) => count * size); }
    }
}
