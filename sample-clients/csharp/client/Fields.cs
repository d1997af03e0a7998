// Made from protos/ by fields.py.
namespace CSharpClient
{
    internal static class TensorProtoFields
    {
        internal const int Dtype = 1;
        internal const int TensorShape = 2;
        internal const int VersionNumber = 3;
        internal const int TensorContent = 4;
        internal const int FloatVal = 5;
        internal const int DoubleVal = 6;
        internal const int IntVal = 7;
        internal const int StringVal = 8;
        internal const int ScomplexVal = 9;
        internal const int Int64Val = 10;
        internal const int BoolVal = 11;
        internal const int DcomplexVal = 12;
        internal const int HalfVal = 13;
        internal const int Uint32Val = 16;
        internal const int Uint64Val = 17;
    }

    internal static class TensorShapeProtoFields
    {
        internal const int Dim = 2;
        internal const int UnknownRank = 3;
    }

    internal static class TensorShapeDimFields
    {
        internal const int Size = 1;
        internal const int Name = 2;
    }

    internal static class ModelSpecFields
    {
        internal const int Name = 1;
        internal const int Version = 2;
        internal const int VersionLabel = 4;
        internal const int SignatureName = 3;
    }

    internal static class PredictRequestFields
    {
        internal const int ModelSpec = 1;
        internal const int Inputs = 2;
        internal const int OutputFilter = 3;
    }

    internal static class PredictResponseFields
    {
        internal const int Outputs = 1;
        internal const int ModelSpec = 2;
    }

    public enum DataType
    {
        DtInvalid = 0,
        DtFloat = 1,
        DtDouble = 2,
        DtInt32 = 3,
        DtUint8 = 4,
        DtInt16 = 5,
        DtInt8 = 6,
        DtString = 7,
        DtComplex64 = 8,
        DtInt64 = 9,
        DtBool = 10,
        DtQint8 = 11,
        DtQuint8 = 12,
        DtQint32 = 13,
        DtBfloat16 = 14,
        DtQint16 = 15,
        DtQuint16 = 16,
        DtUint16 = 17,
        DtComplex128 = 18,
        DtHalf = 19,
        DtResource = 20,
        DtVariant = 21,
        DtUint32 = 22,
        DtUint64 = 23,
    }
}
