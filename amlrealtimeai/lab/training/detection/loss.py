"""The multibox loss (W. Liu et al. 2016): classes, with the hardest background only, and offsets of objects."""

import torch
from torch import Tensor
from torch.nn import functional as F

from amlrealtimeai.lab.training.detection.targets import IGNORED

_NEGATIVES = 3  # background anchors for each object's anchor


def hardest(losses: Tensor, labels: Tensor, ratio: int = _NEGATIVES) -> Tensor:
    """Which background anchors count: bool [n, anchors], of each picture `ratio` times its objects' anchors.

    losses: of the classes [n, anchors]. labels: [n, anchors], 0 is background. A picture without objects has `ratio`.
    """
    objects, background = labels > 0, labels == 0
    wanted = ratio * objects.sum(1, keepdim=True).clamp_min(1)
    order = losses.masked_fill(~background, -1.0).argsort(1, descending=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order).to(order.device))
    return (rank < wanted) & background


def multibox(scores: Tensor, offsets: Tensor, labels: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of the classes and of the boxes, both per anchor of an object.

    scores [n, anchors, 21], offsets [n, anchors, 4]: the network's. labels [n, anchors], wanted [n, anchors, 4]: the
    targets.
    """
    losses = F.cross_entropy(scores.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    objects = labels > 0
    counted = objects | hardest(losses.detach(), labels)
    many = objects.sum().clamp_min(1)
    boxes = F.smooth_l1_loss(offsets[objects], wanted[objects], reduction="sum")
    return losses[counted].sum() / many, boxes / many
