"""Widgets of the lessons. Each has a plain function that shows the same without a running kernel or a mouse."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from amlrealtimeai.accel.models import ssdvgg
from amlrealtimeai.errors import extras_named
from amlrealtimeai.lab import blocks, detection
from amlrealtimeai.lab.pictures import top
from amlrealtimeai.npu.formats import BlockFormat

_EXPONENT_BITS = 8
_MOST_BITS = 7


def mantissas(values: Sequence[float]) -> str:
    """The static twin of `mantissa_slider`: what is left of a block of numbers, for every number of mantissa bits."""
    rows = [f"{'bits':>4}  {'step':>9}  " + "".join(f"{v:>10g}" for v in values) + f"{'largest error':>16}"]
    for bits in range(1, _MOST_BITS + 1):
        block = blocks.view(values, _format(values, bits))
        error = float(np.abs(block.kept - block.values).max())
        rows.append(f"{bits:>4}  {block.step:>9g}  " + "".join(f"{k:>10g}" for k in block.kept) + f"{error:>16g}")
    return "\n".join(rows)


def mantissa_slider(values: Sequence[float]) -> Any:
    """A slider for the mantissa bits; below it the block."""
    with extras_named():
        import ipywidgets

    slider = ipywidgets.IntSlider(3, 1, _MOST_BITS, description="bits", continuous_update=True)
    shown = ipywidgets.HTML()

    def redraw(_: Any = None) -> None:
        text = html.escape(str(blocks.view(values, _format(values, slider.value))))
        shown.value = f"<pre>{text}</pre>"

    slider.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([slider, shown])


def threshold_slider(picture: Any, outputs: Sequence[np.ndarray]) -> Any:
    """Sliders for postprocess's two thresholds; below them the picture with the boxes that remain.

    Its static twin: detection.thresholds(outputs, truth).
    """
    with extras_named():
        import ipywidgets

    select, nms = (
        ipywidgets.FloatSlider(value, min=0.05, max=1.0, step=0.05, description=name, continuous_update=False)
        for name, value in (("select", 0.5), ("NMS", 0.45))
    )
    shown = ipywidgets.HTML()

    def redraw(_: Any = None) -> None:
        found = ssdvgg.postprocess(outputs, select_threshold=select.value, nms_threshold=nms.value)
        shown.value = f"{detection.draw(picture, *found)._repr_html_()}<br>{len(found[0])} boxes"

    for slider in (select, nms):
        slider.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([select, nms, shown])


def upload_and_score(client: Any) -> Any:
    """A button that takes a picture of yours, sends it to the service and shows its answer.

    Its plain twin: lab.top(client.score_file("path/to/picture.jpg")).
    """
    with extras_named():
        import ipywidgets

    button = ipywidgets.FileUpload(accept="image/*", multiple=False, description="a picture of yours")
    shown = ipywidgets.HTML("It stays on this computer.")

    def score(change: dict[str, Any]) -> None:
        if not change["new"]:
            return
        content = bytes(change["new"][0]["content"])
        try:
            answer = client.score_numpy_arrays({"images": np.array([content], object)})
            shown.value = top(np.asarray(answer))._repr_html_()
        except Exception as error:  # whatever it is, the learner sees it below the button
            shown.value = f"<pre>{html.escape(str(error))}</pre>"

    button.observe(score, "value")
    return ipywidgets.VBox([button, shown])


def _format(values: Sequence[float], bits: int) -> BlockFormat:
    return BlockFormat(len(values) + -len(values) % 4, bits, _EXPONENT_BITS)
