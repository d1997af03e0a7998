"""Random messages of our protos/ and of tensorflow-serving-api are the same bytes, in both directions."""

import random
from typing import Any

import pytest

from amlrealtimeai.serving.protocol import protos

NAMES = [
    "PredictRequest",
    "PredictResponse",
    "GetModelMetadataRequest",
    "GetModelStatusRequest",
    "GetModelStatusResponse",
]
MODULES = {
    name: module
    for module, names in {
        "predict_pb2": NAMES[:2],
        "get_model_metadata_pb2": NAMES[2:3],
        "get_model_status_pb2": NAMES[3:],
    }.items()
    for name in names
}


def fill(message: Any, chance: random.Random, depth: int = 0) -> Any:
    """Set a random choice of the fields of `message`, down to the tensors and their shapes."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.5 or depth > 4:
            continue
        count = chance.randrange(4) if field.is_repeated else 1
        if field.message_type and field.message_type.GetOptions().map_entry:
            for _ in range(count):
                fill(getattr(message, field.name)[scalar(9, chance)], chance, depth + 1)
        elif field.message_type:
            for _ in range(count):
                one = getattr(message, field.name)
                fill(one.add() if field.is_repeated else one, chance, depth + 1)
        else:
            numbers = [value.number for value in field.enum_type.values] if field.enum_type else []
            values = [chance.choice(numbers) if numbers else scalar(field.type, chance) for _ in range(count)]
            if field.is_repeated:
                getattr(message, field.name).extend(values)
            else:
                setattr(message, field.name, values[0])
    return message


def scalar(kind: int, chance: random.Random) -> Any:
    """A value of a field type of descriptor.proto."""
    bits = {3: 63, 4: 64, 5: 31, 13: 32}
    if kind in bits:
        low = 0 if kind in (4, 13) else -(2 ** bits[kind])
        return chance.choice([0, 1, low, 2 ** bits[kind] - 1, chance.randrange(low, 2 ** bits[kind])])
    if kind in (1, 2):
        return chance.choice([0.0, -0.0, 1.5, float("inf"), -(2.0**-149), chance.randrange(-(2**20), 2**20) / 64])
    if kind == 8:
        return chance.random() < 0.5
    text = "".join(chance.choices("ab:/0_ é雪\n", k=chance.randrange(12)))
    return text if kind == 9 else bytes(chance.randrange(256) for _ in range(chance.randrange(20)))


@pytest.mark.parametrize("name", NAMES)
def test_both_ways(name: str) -> None:
    module = pytest.importorskip(f"tensorflow_serving.apis.{MODULES[name]}")
    ours, theirs = protos.message_class(f"tensorflow.serving.{name}"), getattr(module, name)
    chance = random.Random(name)
    for _ in range(2000):
        sent = fill(ours(), chance).SerializeToString(deterministic=True)
        read = theirs.FromString(sent)
        assert read.SerializeToString(deterministic=True) == sent
        assert not list(unknown_fields(read)), name
        assert ours.FromString(read.SerializeToString()).SerializeToString(deterministic=True) == sent


def unknown_fields(message: Any) -> Any:
    """Fields of `message` and below that its class does not know."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    yield from UnknownFieldSet(message)
    for field, value in message.ListFields():
        if not field.message_type:
            continue
        if field.message_type.GetOptions().map_entry:
            children = value.values() if field.message_type.fields_by_name["value"].message_type else []
        else:
            children = value if field.is_repeated else [value]
        for child in children:
            yield from unknown_fields(child)
