using System;
using System.Collections.Generic;
using System.IO;
using System.Text;

namespace CSharpClient
{
    /// <summary>One field of a message: its number and, by its kind on the wire, a number or bytes.</summary>
    internal struct ProtoField
    {
        public int Number;
        public ulong Value;
        public byte[] Bytes;

        public string Text { get { return Encoding.UTF8.GetString(Bytes); } }
    }

    /// <summary>Reads the fields of one protocol buffer message; a truncated one is an InvalidDataException.</summary>
    internal static class ProtoReader
    {
        public static IEnumerable<ProtoField> Fields(byte[] message)
        {
            var at = 0;
            while (at < message.Length)
            {
                var tag = Varint(message, ref at);
                var field = new ProtoField { Number = (int)(tag >> 3) };
                switch ((int)(tag & 7))
                {
                    case 0: field.Value = Varint(message, ref at); break;
                    case 1: field.Bytes = Take(message, ref at, 8); break;
                    case 2: field.Bytes = Take(message, ref at, Varint(message, ref at)); break;
                    case 5: field.Bytes = Take(message, ref at, 4); break;
                    default: throw new InvalidDataException("expected a protocol buffer message, got wire type " + (tag & 7));
                }
                yield return field;
            }
        }

        private static ulong Varint(byte[] message, ref int at)
        {
            ulong value = 0;
            for (var shift = 0; shift < 64; shift += 7)
            {
                if (at >= message.Length) break;
                var part = message[at++];
                value |= (ulong)(part & 127) << shift;
                if (part < 128) return value;
            }
            throw new InvalidDataException("the message ends within a number");
        }

        private static byte[] Take(byte[] message, ref int at, ulong count)
        {
            if (count > (ulong)(message.Length - at)) throw new InvalidDataException("the message ends within a field");
            var taken = new byte[(int)count];
            Buffer.BlockCopy(message, at, taken, 0, taken.Length);
            at += taken.Length;
            return taken;
        }
    }
}
