"""Small graphs with unusual attributes, shapes and opsets (spellings.py), against ONNX Runtime without its optimiser.

python -m tests.npu.random_spellings [--count 2000] [--seed 0]

What compiles has to be what ONNX Runtime computes; what it refuses we may not take; the rest is refused in words. Words
in capitals are faults.
"""

import argparse
import collections
import os
import sys

import numpy as np
import onnx

from amlrealtimeai import npu
from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError, UnsupportedError
from amlrealtimeai.npu import unrounded
from tests.npu.graphs import EXACT, floats, model, node
from tests.npu.spellings import STEPS, Draw

# what ONNX allows and ONNX Runtime says that it does not do
_MISSING = (
    *("NOT_IMPLEMENTED", "Computed output shape is inconsistent", "Dilation not supported for AutoPadType"),
    "padding values must be non-negative",
)


def draw(seed: int) -> tuple[onnx.ModelProto, np.ndarray]:
    """A graph of one to three odd nodes, and an input; shapes come from ONNX as far as it can infer them."""
    d = Draw(seed)
    spatial = [d.number(2, 7) for _ in range(d.rank - 2)]
    channels = d.number(1, 6)
    batch = d.pick(["n", "n", 1])
    size = [batch, channels, *spatial]
    w = d.tensor(4, channels, *[3] * len(spatial))
    nodes = (
        [node("Conv", f"x {w}", "c", pads=[1] * 2 * len(spatial))]
        if spatial
        else [node("MatMul", f"x {d.tensor(channels, 4)}", "c")]
    )
    images, last, shape = 1 if batch == 1 else d.number(1, 2), "c", [1, 4, *spatial]
    for number in range(d.number(1, 3)):
        op, inputs, options = d.pick(STEPS)(d, last, shape)
        options = {k: v for k, v in options.items() if v != []}
        name = f"y{number}"
        outputs = [name, f"z{number}"] if op == "Split" else [name]
        nodes.append(onnx.helper.make_node(op, inputs, outputs, name=f"{name}_node", **options))
        last = name
        shape = _shape(nodes, size, d, last)
        if shape is None:
            break
        d.rank = len(shape)
    document = model(nodes, size, d.constants, outputs=[last], opset=d.opset)
    return document, d.rng.integers(-3, 4, (images, *size[1:])).astype(np.float32)


def _shape(nodes, size, d: Draw, name: str) -> list[int] | None:
    document = model(nodes, [1, *size[1:]], d.constants, outputs=[name], opset=d.opset)
    try:
        known = onnx.shape_inference.infer_shapes(document, data_prop=True).graph.output[0].type.tensor_type.shape.dim
    except Exception:
        return None
    shape = [dim.dim_value for dim in known]
    return shape if len(shape) >= 2 and min(shape) > 0 and np.prod(shape) < 5000 else None


def judged(seed: int) -> tuple[str, str]:
    """A word on how ours and ONNX Runtime's answer agree, and details where they do not."""
    document, x = draw(seed)
    expected, refusal = _expected(document, x)
    try:
        program = npu.compile(document, fmt=EXACT)
    except UnsupportedError as error:
        return ("refused", "") if npu.blockers(document) else ("SILENT", str(error))
    except InvalidInputError as error:
        if "malformed" in str(error):
            return "MALFORMED", str(error)
        # a Clip may hide NaN again; ONNX Runtime takes a few operations in opsets that do not have them
        refused = expected is None or "NaN or infinite" in str(error) or "is newer than the" in str(error)
        return ("both refuse", "") if refused else ("INVALID", str(error))
    except AmlRealtimeAiError as error:
        return "OTHER", str(error)
    except Exception as error:
        return "RAW", f"{type(error).__name__}: {error}"
    if expected is None:
        return ("not implemented there", "") if any(text in refusal for text in _MISSING) else ("TAKEN", refusal)
    return _compared(document, program, x, expected)


def _expected(document: onnx.ModelProto, x: np.ndarray) -> tuple[dict[str, np.ndarray] | None, str]:
    """ONNX Runtime's values, or why it has none."""
    try:
        return floats(document, x), ""
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        return None, " ".join(str(error).split())[:200]


def _compared(
    document: onnx.ModelProto, program: npu.Program, x: np.ndarray, expected: dict[str, np.ndarray]
) -> tuple[str, str]:
    found = npu.Native(program, threads=1).run(x)
    reference = npu.reference.run(program, x)
    for name, values in expected.items():
        if found[name].tobytes() != reference[name].tobytes():
            return "BITS", name
        if found[name].shape != values.shape:
            return "WRONG", f"{found[name].shape}, expected {values.shape}"
        if not _near(found[name], values):
            # integers up to 127 in a block are exact; what is not may be rounded, which does not show without rounding
            parts = [unrounded.run(document, image[None])[name] for image in x]
            if not _near(np.concatenate(parts), values):
                return "WRONG", f"{np.abs(found[name] - values).max()} of {np.abs(values).max()}"
            return "rounded", f"{np.abs(found[name] - values).max()} of {np.abs(values).max()}"
    return "same", ""


def _near(found: np.ndarray, expected: np.ndarray) -> bool:
    largest = np.abs(expected).max(initial=0.0)
    return found.shape == expected.shape and np.abs(found - expected).max(initial=0.0) <= 1e-5 * largest + 1e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    chosen = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    for seed in range(chosen.seed, chosen.seed + chosen.count):
        word, details = judged(seed)
        counts[word] += 1
        if word.isupper() or (chosen.verbose and details):
            print(seed, word, details.replace("\n", " ")[:300], flush=True)
    print(dict(counts))
    sys.exit(any(word.isupper() for word in counts))


if __name__ == "__main__":
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    main()
