"""How good the workshop's ResNet-50 is: float and in every preset format through the NPU, on pictures it never saw.

    python -m amlrealtimeai.lab.evaluate [--count 2048] [--others 1024] [--weights FILE.npz] [--formats bw_cnn ...]

Takes minutes on free cores, half an hour on busy ones. The photo backgrounds need scikit-learn; cut-outs and
photographs need Debian's packages (the options --stamps and --backgrounds say which).
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from amlrealtimeai import command_line, npu
from amlrealtimeai.artifact.runtime import onnxruntime
from amlrealtimeai.errors import NotFoundError
from amlrealtimeai.lab import images, memory, resnet50
from amlrealtimeai.lab.images import photographs
from amlrealtimeai.lab.images.photographs import BACKGROUND_FOLDERS, STAMPS_FOLDER

DEFAULT_FORMAT = "bw_cnn"

_SEED = 20181  # of the held-out sets: training draws from other seeds
_BATCH = 16
_RIDGE = 0.1  # regularisation, per picture

_PET_DESIGNS = (("noto", "twemoji"), ("twemoji", "noto"), ("noto", "openmoji"))

Featurizer = Callable[[np.ndarray], np.ndarray]
Arrays = Mapping[str, np.ndarray]


PHOTOGRAPHS = "photographs"  # as a background: those of Debian's packages that no training sees


@dataclass(frozen=True)
class HeldOut:
    """A set of pictures, as images.dataset composes it, or of cut-outs. The first is measured in every format.

    background: one of images.BACKGROUNDS, or PHOTOGRAPHS. stamps: which cut-outs to take instead of emoji, "" for none.
    """

    name: str
    designs: tuple[str, ...] = ()
    background: str = "procedural"
    variety: float = 0.5
    stamps: str = ""


SETS = (
    HeldOut("Noto, plain", ("noto",), variety=0.0),
    HeldOut("Noto", ("noto",)),
    HeldOut("Noto, plain, photo backgrounds", ("noto",), "photo", 0.0),
    HeldOut("Noto, plain, held-out photographs", ("noto",), PHOTOGRAPHS, 0.0),
    HeldOut("five designs, plain", images.TRAINING_DESIGNS, variety=0.0),
    HeldOut("five designs", images.TRAINING_DESIGNS),
    HeldOut("five designs, full variety", images.TRAINING_DESIGNS, variety=1.0),
    HeldOut("OpenMoji, plain", (images.UNSEEN_DESIGN,), variety=0.0),
    HeldOut("OpenMoji", (images.UNSEEN_DESIGN,)),
    HeldOut("test stamps, plain", variety=0.0, stamps="test"),
    HeldOut("test stamps, held-out photographs", (), PHOTOGRAPHS, 0.0, "test"),
    HeldOut("training stamps, plain", variety=0.0, stamps="train"),
    HeldOut("training stamps, held-out photographs", (), PHOTOGRAPHS, 0.0, "train"),
)


@dataclass(frozen=True)
class Folders:
    """Where the photographs are, as images.Stamps and images.Photographs take them."""

    stamps: Path = STAMPS_FOLDER
    backgrounds: tuple[Path, ...] = BACKGROUND_FOLDERS

    def pairs(self, chosen: HeldOut, count: int) -> Iterator[tuple[np.ndarray, int]]:
        """So many pictures of the set. Raises NotFoundError where its photographs are not installed."""
        behind: images.Background = chosen.background
        if chosen.background == PHOTOGRAPHS:
            behind = images.Photographs.of_folders(self.backgrounds, "test")
        if not chosen.stamps:
            return images.dataset(count, 224, _SEED, designs=chosen.designs, background=behind, variety=chosen.variety)
        stamps = images.Stamps(self.stamps, chosen.stamps)
        return images.stamps_dataset(count, stamps, 224, _SEED, background=behind, variety=chosen.variety)


INSTALLED = Folders()


@dataclass(frozen=True)
class Row:
    """Top-1 of one number format on one set, in percent; drop: points below float."""

    pictures: str
    count: int
    number_format: str
    top1: float
    drop: float


def float_featurizer(arrays: Arrays, threads: int | None = None) -> Featurizer:
    """The float32 network in ONNX Runtime: images float32 [n, 224, 224, 3] -> features."""
    options = onnxruntime().SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime().InferenceSession(resnet50.featurizer(arrays).SerializeToString(), options)
    memory.give_back()  # the network was there three times
    return lambda x: session.run(["features"], {"image": x})[0]


def npu_featurizer(arrays: Arrays, number_format: str, threads: int | None = None) -> Featurizer:
    """The network in `number_format`, after post-training quantisation, in the native kernel."""
    native = npu.Native(npu.compile(resnet50.featurizer(arrays), fmt=number_format), threads)
    return lambda x: native.run(x)["features"]


def rows(
    arrays: Arrays,
    counts: Sequence[int],
    formats: Sequence[str],
    threads: int | None = None,
    folders: Folders = INSTALLED,
) -> list[Row]:
    """Measure SETS, so many pictures of each as `counts` says; a shorter list leaves the last sets out.

    A set whose photographs are not installed is left out, in one line.
    """
    featurizers = {"float32": float_featurizer(arrays, threads)}
    featurizers |= {name: npu_featurizer(arrays, name, threads) for name in formats}
    found: list[Row] = []
    for chosen, count in zip(SETS, counts, strict=False):
        names = ["float32", *(name for name in formats if chosen is SETS[0] or name == DEFAULT_FORMAT)]
        try:
            pairs = tqdm(folders.pairs(chosen, count), chosen.name, count, unit="img", mininterval=5)
            right = _right(pairs, arrays, {name: featurizers[name] for name in names})
        except NotFoundError as error:
            print(f"{chosen.name}: left out: {error}", file=sys.stderr)
            continue
        shares = {name: 100 * right[name] / count for name in names}
        found += [Row(chosen.name, count, name, shares[name], shares["float32"] - shares[name]) for name in names]
    return found


def pets(featurize: Featurizer, train: str, test: str, count: int = 150) -> float:
    """Transfer: a linear classifier of cats and dogs, fitted to features of one design and tested on another.

    featurize: the featurizer, which is not trained here. count: pictures of each animal, to fit and to test.
    Returns the share of test pictures that are classified right, 0..1.
    """
    x, y = _pet_features(featurize, train, count)
    centre, scale = x.mean(axis=0), x.std() + 1e-6
    x = (x - centre) / scale
    # ridge regression in its dual form: there are fewer pictures than features
    weights = x.T @ np.linalg.solve(x @ x.T + _RIDGE * len(x) * np.eye(len(x)), y)
    x, y = _pet_features(featurize, test, count)
    return float(((x - centre) / scale @ weights * y > 0).mean())


def _pet_features(featurize: Featurizer, design: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [2 * count, 2048] of composed cats and dogs, and -1 for a cat, 1 for a dog."""
    found, signs = [], np.tile([-1.0, 1.0], count)
    for number in range(count):
        pair = np.stack([images.compose_pet(name, 224, number, design=design) for name in images.PETS])
        found.append(featurize(resnet50.prepare(pair)).reshape(2, -1))
    return np.concatenate(found).astype(np.float64), signs


def table(found: Sequence[Row]) -> str:
    """As Markdown."""
    lines = ["| pictures | number | format | top-1 % | drop, points |", "|---|---|---|---|---|"]
    for row in found:
        drop = "" if row.number_format == "float32" else f"{row.drop:.2f}"
        lines.append(f"| {row.pictures} | {row.count} | {row.number_format} | {row.top1:.2f} | {drop} |")
    return "\n".join(lines)


def _right(
    pairs: Iterable[tuple[np.ndarray, int]], arrays: Arrays, featurizers: Mapping[str, Featurizer]
) -> dict[str, int]:
    """How many pictures each featurizer gets right."""
    right = dict.fromkeys(featurizers, 0)
    left = iter(pairs)
    while batch := list(islice(left, _BATCH)):
        x = resnet50.prepare(np.stack([picture for picture, _ in batch]))
        labels = [label for _, label in batch]
        for name, featurize in featurizers.items():
            right[name] += int((resnet50.classify(arrays, featurize(x)) == labels).sum())
    return right


def add_options(parser: command_line.Parser, things: str, first: int, others: int) -> None:
    """What every evaluation is told. things: what is counted; first, others: how many of them in the sets."""
    parser.add_argument("--count", type=command_line.count, default=first, help=f"{things} in the first set")
    parser.add_argument("--others", type=command_line.count, default=others, help=f"{things} in each other set")
    parser.add_argument("--weights", type=Path, help="an archive; default: the shipped one")
    parser.add_argument("--threads", type=command_line.count, help="default: all cores; 1 is best on a busy machine")
    parser.add_argument("--out", type=Path, help="also write the table there")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = command_line.Parser(
        prog="python -m amlrealtimeai.lab.evaluate",
        description="Top-1 of the workshop's ResNet-50, float and in block floating point.",
    )
    add_options(parser, "pictures", 2048, 1024)
    photographs.add_options(parser)
    parser.add_argument("--formats", nargs="*", default=list(npu.formats), help="preset formats; default: all")
    chosen = parser.parse_args(arguments)
    return command_line.run(lambda: _evaluate(chosen))


def _evaluate(chosen: argparse.Namespace) -> None:
    arrays = resnet50.weights(chosen.weights)
    counts = [chosen.count] + [chosen.others] * (len(SETS) - 1)
    folders = Folders(chosen.stamps, tuple(chosen.backgrounds))
    text = table(rows(arrays, counts, chosen.formats, chosen.threads, folders))
    print(text)
    featurize = float_featurizer(arrays, chosen.threads)
    for train, test in _PET_DESIGNS:
        print(f"cats and dogs, fitted to {train}, tested on {test}: {100 * pets(featurize, train, test):.1f} % right")
    if chosen.out:
        chosen.out.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
