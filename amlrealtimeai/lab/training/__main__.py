"""Train a network of the workshop and write its archive: one command, which continues where it was interrupted."""

import argparse
import sys
from pathlib import Path

from amlrealtimeai import command_line
from amlrealtimeai.errors import AmlRealtimeAiError
from amlrealtimeai.lab import images
from amlrealtimeai.lab.images.photographs import add_options as add_photographs
from amlrealtimeai.lab.training.detection import recipe as detection
from amlrealtimeai.lab.training.recipe import RECIPES, Material


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    known = detection.RECIPES if chosen.network == "ssdvgg" else RECIPES
    if chosen.recipe and chosen.recipe not in known:
        parser.error(f"--recipe: {chosen.network} has {', '.join(known)}, not {chosen.recipe}")
    try:
        import torch
    except ImportError:
        print("training needs PyTorch, which is not installed: run 'pip install torch'", file=sys.stderr)
        return 1
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    archive = chosen.folder / f"{chosen.network}.npz"
    try:
        digest = (_train_ssdvgg if chosen.network == "ssdvgg" else _train_resnet50)(chosen, archive)
    except AmlRealtimeAiError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; the same command continues from the last checkpoint in {chosen.folder}", file=sys.stderr)
        return 130
    print(f"{archive}: SHA-256 {digest}")
    return 0


def _parser() -> command_line.Parser:
    parser = command_line.Parser(prog="python -m amlrealtimeai.lab.training", description=__doc__)
    parser.add_argument("folder", type=Path, help="keeps checkpoint.pt, curves.csv and, at the end, NETWORK.npz")
    parser.add_argument("--network", choices=("resnet50", "ssdvgg"), default="resnet50")
    parser.add_argument("--start", type=Path, help="an archive to start from; default: as the recipe says")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=command_line.count, help="of PyTorch; default: all cores")
    parser.add_argument(
        "--workers", type=command_line.none_or_more, default=0, help="processes that compose pictures (with a GPU: 8)"
    )
    parser.add_argument(
        "--recipe",
        choices=sorted({*RECIPES, *detection.RECIPES}),
        help=f"resnet50: {', '.join(RECIPES)}; ssdvgg: {', '.join(detection.RECIPES)}; default: the first",
    )
    parser.add_argument(
        "--minutes",
        type=command_line.some_seconds,
        help="of training in all, over which the learning rate falls; may be another one when a training continues; "
        "default: as many pictures as resnet50's recipe says, 240 minutes for ssdvgg",
    )
    resnet = parser.add_argument_group("resnet50")
    resnet.add_argument(
        "--held-out", type=command_line.count, default=256, help="pictures of each watched set in a test"
    )
    resnet.add_argument("--held-out-every", type=command_line.some_seconds, default=8, help="minutes between tests")
    add_photographs(resnet)
    ssd = parser.add_argument_group("ssdvgg")
    ssd.add_argument("--voc", type=Path, metavar="FOLDER", help="own pictures in PASCAL VOC's layout")
    return parser


def _train_resnet50(chosen: argparse.Namespace, archive: Path) -> str:
    from amlrealtimeai.lab.training.trainer import Trainer

    recipe = RECIPES[chosen.recipe or next(iter(RECIPES))]
    material, tests = Material(), None
    if recipe.stamps or recipe.photographs:
        photographs = images.Photographs.of_folders(chosen.backgrounds)
        material, tests = Material(images.Stamps(chosen.stamps), photographs), images.Stamps(chosen.stamps, "test")
    trainer = Trainer(recipe, chosen.folder, chosen.seed, chosen.workers, chosen.start, chosen.minutes, material, tests)
    trainer.run(chosen.held_out, 60 * chosen.held_out_every)
    return trainer.export(archive)


def _train_ssdvgg(chosen: argparse.Namespace, archive: Path) -> str:
    from amlrealtimeai.lab.training.detection.trainer import Trainer

    recipe = detection.RECIPES[chosen.recipe or next(iter(detection.RECIPES))]
    minutes = chosen.minutes or 240
    trainer = Trainer(recipe, chosen.folder, minutes, chosen.seed, chosen.workers, chosen.start, chosen.voc)
    trainer.run()
    return trainer.export(archive)


if __name__ == "__main__":
    sys.exit(main())
