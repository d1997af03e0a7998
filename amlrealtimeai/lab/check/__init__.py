"""Checks of the exercises: each knows the right answer, and what the common wrong ones come from.

Whatever a learner hands over, a check answers with a Verdict; nothing that is wrong with an answer raises.
"""

from amlrealtimeai import lazy

_HOMES = {
    "certificate_names": "ssl",
    "chelsea": "quickstart",
    "diagnosis": "ssl",
    "doubled": "detection",
    "fewest_bits": "convert",
    "missed": "detection",
    "overlap": "detection",
    "replicas_needed": "deploy",
    "rotation": "ssl",
    "rounded_block": "convert",
    "shared_exponent": "quickstart",
    "small_training_set": "modelbuild",
    "steps_to_repeat": "quickstart",
    "which_layers": "deploy",
    "which_set": "modelbuild",
    "which_stage": "convert",
    "won_back": "modelbuild",
    "wrong_probe": "deploy",
    "Verdict": "verdict",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy.attributes(__name__, _HOMES)
