"""What ResNet-50 says to real photographs: some that ship with ordinary packages of PyPI and of Debian.

    python -m amlrealtimeai.lab.evaluate_photographs [--weights FILE.npz] [--folders FOLDER ...] [--formats msfp16]

labels/real_photographs.json lists them with the classes that a person accepts. They do not ship with the project: those
of packages that are not installed are left out, and the command that gets them is told.
"""

import argparse
import json
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amlrealtimeai import command_line, npu, resources
from amlrealtimeai.accel.models import shipped
from amlrealtimeai.artifact.preprocess import PreprocessParameters, preprocess_images
from amlrealtimeai.errors import NotFoundError
from amlrealtimeai.lab import evaluate, images, resnet50

INSTALLED = (Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib")), Path("/"))
_PREPROCESSING = PreprocessParameters(order="BGR")  # short side 256, the middle: as a deployed service does


@dataclass(frozen=True)
class Photograph:
    """path: where it lies. classes: ImageNet's indices that count as right."""

    path: Path
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """The most probable class, and its probability, 0..1."""

    label: int
    probability: float


@dataclass(frozen=True)
class Row:
    """The answers to one photograph, by number format."""

    photograph: Photograph
    answers: dict[str, Answer]

    def right(self, number_format: str) -> bool:
        """Whether that answer is one of the classes that count."""
        return self.answers[number_format].label in self.photograph.classes


def photographs(folders: Sequence[Path] = INSTALLED) -> list[Photograph]:
    """Those in `folders`, which hold Python packages, or usr/share as Debian does; others are left out, in a line each.

    Raises NotFoundError where there is none.
    """
    listed = json.loads(resources.path("labels/real_photographs.json").read_text(encoding="utf-8"))
    found, missing = [], dict.fromkeys(listed["packages"], 0)
    for entry in listed["photographs"]:
        paths = [folder / entry["picture"] for folder in folders if (folder / entry["picture"]).is_file()]
        if paths:
            found.append(Photograph(paths[0], tuple(entry["classes"])))
        else:
            missing[entry["package"]] += 1
    told = [f"{n} of {package}: '{listed['packages'][package]}' gets them" for package, n in missing.items() if n]
    if not found:
        raise NotFoundError(f"no photograph in {', '.join(map(str, folders))}. Missing are {'; '.join(told)}")
    for line in told:
        print(f"left out: {line}", file=sys.stderr)
    return found


def rows(
    arrays: evaluate.Arrays, chosen: Sequence[Photograph], formats: Sequence[str], threads: int | None = None
) -> list[Row]:
    """Ask the network with the weights `arrays` in float32 and in `formats`, after post-training quantisation."""
    x = preprocess_images([photograph.path.read_bytes() for photograph in chosen], _PREPROCESSING)
    answers = {"float32": _answers(arrays, evaluate.float_featurizer(arrays, threads), x)}
    for name in formats:
        answers[name] = _answers(arrays, evaluate.npu_featurizer(arrays, name, threads), x)
    return [Row(photograph, {name: answers[name][i] for name in answers}) for i, photograph in enumerate(chosen)]


def table(found: Sequence[Row]) -> str:
    """As Markdown: a line for each photograph, then how many are right."""
    formats = list(found[0].answers)
    lines = [f"| photograph | counts as right | {' | '.join(formats)} |", "|---|---|" + "---|" * len(formats)]
    for row in found:
        accepted = ", ".join(images.labels()[label] for label in row.photograph.classes)
        said = " | ".join(_said(row, name) for name in formats)
        lines.append(f"| {row.photograph.path.name} | {accepted} | {said} |")
    counts = (f"{sum(row.right(name) for row in found)} of {len(found)}" for name in formats)
    return "\n".join([*lines, f"| right | | {' | '.join(counts)} |"])


def _answers(arrays: evaluate.Arrays, featurize: evaluate.Featurizer, x: np.ndarray) -> list[Answer]:
    found = []
    for picture in x:
        logits = resnet50.logits(arrays, featurize(picture[np.newaxis]))[0].astype(np.float64)
        shares = np.exp(logits - logits.max())
        found.append(Answer(int(logits.argmax()), float(shares.max() / shares.sum())))
    return found


def _said(row: Row, number_format: str) -> str:
    answer = row.answers[number_format]
    mark = "" if row.right(number_format) else "wrong: "
    return f"{mark}{images.labels()[answer.label]} {answer.probability:.0%}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = command_line.Parser(
        prog="python -m amlrealtimeai.lab.evaluate_photographs",
        description="What ResNet-50 says to real photographs, in float and in block floating point.",
    )
    parser.add_argument("--weights", type=Path, help="an archive; default: the shipped one that knows photographs")
    parser.add_argument("--folders", type=Path, nargs="+", default=INSTALLED, help="where packages are unpacked")
    parser.add_argument("--formats", nargs="*", choices=sorted(npu.formats), default=["msfp16"], help="preset formats")
    parser.add_argument("--threads", type=command_line.count, help="default: all cores; 1 is best on a busy machine")
    return command_line.run(lambda: _evaluate(parser.parse_args(arguments)))


def _evaluate(chosen: argparse.Namespace) -> None:
    arrays = resnet50.weights(chosen.weights or shipped.archive("photographs", "resnet50"))
    print(table(rows(arrays, photographs(chosen.folders), chosen.formats, chosen.threads)))


if __name__ == "__main__":
    sys.exit(main())
