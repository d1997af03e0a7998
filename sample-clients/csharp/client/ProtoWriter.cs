using System;
using System.IO;
using System.Text;

namespace CSharpClient
{
    /// <summary>Writes one protocol buffer message: what Predict needs of the wire format, and no more.</summary>
    internal sealed class ProtoWriter
    {
        private readonly MemoryStream _bytes = new MemoryStream();

        public byte[] ToArray() { return _bytes.ToArray(); }

        public void Varint(int field, long value)
        {
            Raw((ulong)(field << 3));
            Raw((ulong)value);
        }

        public void Bytes(int field, byte[] value)
        {
            Raw((ulong)(field << 3 | 2));
            Raw((ulong)value.Length);
            _bytes.Write(value, 0, value.Length);
        }

        public void Text(int field, string value) { Bytes(field, Encoding.UTF8.GetBytes(value)); }

        public void Message(int field, ProtoWriter message) { Bytes(field, message.ToArray()); }

        private void Raw(ulong value)
        {
            for (; value > 127; value >>= 7) _bytes.WriteByte((byte)(value | 128));
            _bytes.WriteByte((byte)value);
        }
    }
}
