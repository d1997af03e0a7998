"""Write client/Fields.cs, the field numbers of protos/:  python sample-clients/csharp/fields.py [OUT]"""

import sys
from pathlib import Path

from amlrealtimeai.serving.protocol import protos

DEFAULT = Path(__file__).resolve().parent / "client" / "Fields.cs"
MESSAGES = (
    "tensorflow.TensorProto",
    "tensorflow.TensorShapeProto",
    "tensorflow.TensorShapeProto.Dim",
    "tensorflow.serving.ModelSpec",
    "tensorflow.serving.PredictRequest",
    "tensorflow.serving.PredictResponse",
)


def text() -> str:
    """Fields.cs: a class of constants for each message, and the data types."""
    lines = ["// Made from protos/ by fields.py.", "namespace CSharpClient", "{"]
    for name in MESSAGES:
        message = protos.POOL.FindMessageTypeByName(name)
        lines += [
            f"    internal static class {'TensorShapeDim' if message.name == 'Dim' else message.name}Fields",
            "    {",
        ]
        lines += [f"        internal const int {pascal(field.name)} = {field.number};" for field in message.fields]
        lines += ["    }", ""]
    values = protos.POOL.FindEnumTypeByName("tensorflow.DataType").values
    lines += ["    public enum DataType", "    {"]
    lines += [f"        {pascal(value.name.lower())} = {value.number}," for value in values]
    return "\n".join([*lines, "    }", "}", ""])


def pascal(name: str) -> str:
    """model_spec -> ModelSpec."""
    return "".join(part.capitalize() for part in name.split("_"))


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT).write_text(text(), encoding="utf8")
