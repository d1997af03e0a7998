"""Widgets of the lessons. Each has a plain function that shows the same without a running kernel or a mouse."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from amlrealtimeai.accel.models import ssdvgg
from amlrealtimeai.errors import InvalidInputError, extras_named
from amlrealtimeai.lab import blocks, deploy, detection, diagrams, plots
from amlrealtimeai.lab.pictures import top
from amlrealtimeai.npu import timing
from amlrealtimeai.npu.formats import BlockFormat
from amlrealtimeai.npu.program import Program

_EXPONENT_BITS = 8
_MOST_BITS = 7
_CLIENTS = (1, 2, 4, 8, 16)
_boxes: dict[str, tuple[Any, ...]] = {}  # by the cell that shows them


def mantissas(values: Sequence[float]) -> str:
    """The static twin of `mantissa_slider`: what is left of a block of numbers, for every number of mantissa bits."""
    blocks.view(values, _format(values, 1))  # or an error, before any of it is written
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
        shown.value = _pre(blocks.view(values, _format(values, slider.value)))

    slider.observe(redraw, "value")
    redraw()
    return _in_this_cell(ipywidgets.VBox([slider, shown]))


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
        count = len(found[0])
        shown.value = f"{detection.draw(picture, *found)._repr_html_()}<br>{count} box{'es' if count != 1 else ''}"

    for slider in (select, nms):
        slider.observe(redraw, "value")
    redraw()
    return _in_this_cell(ipywidgets.VBox([select, nms, shown]))


def upload_and_score(client: Any) -> Any:
    """A button that takes a picture of yours, sends it to the service and shows its answer.

    Its plain twin: lab.top(client.score_file("path/to/picture.jpg")).
    """
    with extras_named():
        import ipywidgets

    button = ipywidgets.FileUpload(
        accept="image/*", multiple=False, description="a picture of yours", layout={"width": "max-content"}
    )
    shown = ipywidgets.HTML("It stays on this computer.")

    def score(change: dict[str, Any]) -> None:
        if not change["new"]:
            return
        content = bytes(change["new"][0]["content"])
        try:
            answer = client.score_numpy_arrays({"images": np.array([content], object)})
            shown.value = top(np.asarray(answer))._repr_html_()
        except Exception as error:  # whatever it is, the learner sees it below the button
            shown.value = _pre(error)
        finally:
            button.value = ()  # nothing is kept, and the same picture may be sent again

    button.observe(score, "value")
    return _in_this_cell(ipywidgets.VBox([button, shown]))


def chain(program: Program, number: int) -> str:
    """The static twin of `program_explorer`: the instructions of chain `number`, and its cycles by the timing model."""
    chains = timing.estimate(program).chains
    if not isinstance(number, int) or not 0 <= number < len(chains):
        raise InvalidInputError(f"expected a chain from 0 to {len(chains) - 1}, got {number!r}")
    listed = program.listing(slice(number, number + 1)).split("\n\n")[1]
    took = chains[number]
    share = took.cycles / sum(one.cycles for one in chains)
    return (
        f"{listed}\n\nmodelled: {took.cycles:,} cycles, {share:.1%} of all; {took.utilisation:.0%} of the multipliers "
        "busy meanwhile"
    )


def program_explorer(program: Program) -> Any:
    """A slider through the chains of an NPU program; below it the cycles of all, and the instructions of the one."""
    with extras_named():
        import ipywidgets

    report = timing.estimate(program)
    slider = ipywidgets.IntSlider(0, 0, len(program.chains) - 1, description="chain", continuous_update=True)
    shown = ipywidgets.HTML()

    def redraw(_: Any = None) -> None:
        bars = diagrams.cycles([one.cycles for one in report.chains], slider.value)
        shown.value = bars._repr_html_() + _pre(chain(program, slider.value))

    slider.observe(redraw, "value")
    redraw()
    return _in_this_cell(ipywidgets.VBox([slider, shown]))


def latency_against_clients(service: Any) -> Any:
    """A choice of how many clients ask at once, and a button that lets them; below it what has been measured so far.

    service: a deployed service without TLS, or its address. Its static twin:
    lab.plots.load(lab.deploy.loads(address, (1, 2, 4, 8, 16))).
    """
    with extras_named():
        import ipywidgets

    address = getattr(service, "scoring_uri", service)
    clients = ipywidgets.SelectionSlider(options=_CLIENTS, description="clients")
    ask = ipywidgets.Button(description="ask for a second")
    shown = ipywidgets.HTML("Nothing is measured yet.")
    measured: dict[int, deploy.Load] = {}

    def measure(_: Any) -> None:
        ask.disabled = True
        try:
            measured[clients.value] = deploy.load(address, clients.value)
            found = [measured[count] for count in sorted(measured)]
            shown.value = plots.load(found)._repr_html_() + _pre("\n".join(map(str, found)))
        except Exception as error:  # whatever it is, the learner sees it below the button
            shown.value = _pre(error)
        finally:
            ask.disabled = False

    ask.on_click(measure)
    return _in_this_cell(ipywidgets.VBox([clients, ask, shown]))


def _in_this_cell(box: Any) -> Any:
    """`box`, in place of the one that an earlier run of this cell made: ipywidgets would keep each until the end."""
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    cell = kernel.get_parent("shell").get("metadata", {}).get("cellId") if kernel else None
    if cell:
        for old in _boxes.pop(cell, ()):
            for part in (old.layout, getattr(old, "style", None), old):
                if part is not None:
                    part.close()
        _boxes[cell] = (box, *box.children)
    return box


def _pre(said: Any) -> str:
    return f"<pre>{html.escape(str(said))}</pre>"


def _format(values: Sequence[float], bits: int) -> BlockFormat:
    count = np.size(values) or 1
    return BlockFormat(min(count + -count % 4, 400), bits, _EXPONENT_BITS)
