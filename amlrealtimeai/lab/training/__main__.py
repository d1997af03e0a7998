"""Train the workshop's ResNet-50 and write its archive: one command, which continues where it was interrupted."""

import sys
from pathlib import Path

from amlrealtimeai import command_line
from amlrealtimeai.errors import AmlRealtimeAiError
from amlrealtimeai.lab.training.recipe import RECIPES


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = command_line.Parser(prog="python -m amlrealtimeai.lab.training", description=__doc__)
    parser.add_argument("folder", type=Path, help="keeps checkpoint.pt, curves.csv and, at the end, resnet50.npz")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="finetune")
    parser.add_argument("--start", type=Path, help="an archive to start from; default: as the recipe says")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=command_line.count, help="of PyTorch; default: all cores")
    parser.add_argument(
        "--workers", type=command_line.none_or_more, default=0, help="processes that compose pictures (with a GPU: 8)"
    )
    parser.add_argument(
        "--held-out", type=command_line.count, default=256, help="pictures of each watched design in a test"
    )
    parser.add_argument("--held-out-every", type=command_line.some_seconds, default=8, help="minutes between tests")
    chosen = parser.parse_args(arguments)
    try:
        import torch
    except ImportError:
        print("training needs PyTorch, which is not installed: run 'pip install torch'", file=sys.stderr)
        return 1
    from amlrealtimeai.lab.training.trainer import Trainer

    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    try:
        trainer = Trainer(RECIPES[chosen.recipe], chosen.folder, chosen.seed, chosen.workers, chosen.start)
        trainer.run(chosen.held_out, 60 * chosen.held_out_every)
        digest = trainer.export(chosen.folder / "resnet50.npz")
    except AmlRealtimeAiError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; the same command continues from the last checkpoint in {chosen.folder}", file=sys.stderr)
        return 130
    print(f"{chosen.folder / 'resnet50.npz'}: SHA-256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
