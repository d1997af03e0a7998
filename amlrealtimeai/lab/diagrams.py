"""Diagrams of the lessons, as SVG made here: each a Picture with a text for those who cannot see it."""

from collections.abc import Sequence
from html import escape

from amlrealtimeai.lab.inside import StageView
from amlrealtimeai.lab.pictures import Picture
from amlrealtimeai.lab.style import HOST, INK, MENDED, NPU, PAPER, QUIET, WIRE


class _Canvas:
    """Boxes, arrows and words on paper, collected as SVG."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._parts: list[str] = []
        self._colours: set[str] = set()

    def box(self, x: float, y: float, width: float, height: float, colour: str, lines: str) -> None:
        """A rectangle with a title in its colour, and more lines of text below it, "|" between them."""
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{colour}" fill-opacity="0.10" '
            f'stroke="{colour}" stroke-width="2"/>'
        )
        title, *rest = lines.split("|")
        top = y + height / 2 - 8 * len(rest) + 5
        self.text(x + width / 2, top, title, colour, bold=True)
        for number, line in enumerate(rest, start=1):
            self.text(x + width / 2, top + 17 * number, line)

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle."""
        self._parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')

    def text(self, x: float, y: float, words: str, colour: str = INK, bold: bool = False) -> None:
        """A line of words around `x`."""
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="middle"{weight}>{escape(words)}</text>')

    def arrow(
        self, x1: float, y1: float, x2: float, y2: float, words: str = "", colour: str = QUIET, dashed: bool = False
    ) -> None:
        """An arrow, with words above its middle."""
        self._colours.add(colour)
        dash = ' stroke-dasharray="6 4"' if dashed else ""
        self._parts.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="2"{dash} '
            f'marker-end="url(#head{colour[1:]})"/>'
        )
        if words:
            self.text((x1 + x2) / 2, (y1 + y2) / 2 - 7, words)

    def picture(self, alt: str) -> Picture:
        """All of it."""
        heads = "".join(
            f'<marker id="head{colour[1:]}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'
            for colour in sorted(self._colours)
        )
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" font-family="DejaVu Sans,Verdana,sans-serif" font-size="13" role="img">'
            f"<title>{escape(alt)}</title><defs>{heads}</defs>"
            f'<rect width="{self.width}" height="{self.height}" rx="8" fill="{PAPER}"/>{"".join(self._parts)}</svg>'
        )
        return Picture(svg.encode(), "image/svg+xml", alt, self.width)


def stages() -> Picture:
    """The three stages of a converted model, and what travels between them."""
    canvas = _Canvas(760, 134)
    canvas.box(95, 40, 160, 76, HOST, "host|decode, resize, crop,|subtract the mean")
    canvas.box(325, 40, 160, 76, NPU, "NPU|all convolutions, in|block floating point")
    canvas.box(555, 40, 130, 76, HOST, "host|classifier,|softmax")
    canvas.arrow(12, 78, 91, 78, "JPEG", WIRE)
    canvas.arrow(255, 78, 321, 78, "224²·3", WIRE)
    canvas.arrow(485, 78, 551, 78, "2048", WIRE)
    canvas.arrow(685, 78, 750, 78, "1000", WIRE)
    canvas.text(380, 24, "one converted model, three stages; the numbers say how much travels between them", QUIET)
    return canvas.picture(
        "A JPEG goes to the host, which decodes it to 224 x 224 x 3 numbers; the NPU runs all convolutions on them in "
        "block floating point and gives 2048 features; the host's classifier makes 1000 probabilities of these."
    )


def converted(stages: Sequence[StageView]) -> Picture:
    """The stages that a conversion has made, from `lab.inside.stages_of`."""
    canvas = _Canvas(760, 10 + 92 * len(stages))
    for number, stage in enumerate(stages):
        y, on_npu = 20 + 92 * number, stage.kind == "npu"
        place, colour = ("NPU", NPU) if on_npu else ("host", HOST)
        canvas.box(40, y, 680, 62, colour, f"{place}: {stage.kind}|{stage.content}|writes {_few(stage.writes)}")
        if number + 1 < len(stages):
            canvas.arrow(380, y + 62, 380, y + 90, "", WIRE)
    said = "; ".join(f"{stage.kind} ({stage.content}) writes {_few(stage.writes)}" for stage in stages)
    return canvas.picture(f"{len(stages)} stages, one after the other: {said}.")


def cycles(counts: Sequence[int], chosen: int) -> Picture:
    """The cycles of a program's chains as bars, one of them `chosen`."""
    canvas, left, floor, high = _Canvas(760, 170), 20, 140, 96
    step = (canvas.width - 2 * left) / len(counts)
    for number, count in enumerate(counts):
        tall = max(1.0, high * count / max(counts))
        canvas.bar(left + step * number, floor - tall, max(1.0, 0.8 * step), tall, NPU if number == chosen else HOST)
    canvas.text(left + step * (chosen + 0.4), floor + 18, str(chosen), NPU, bold=True)
    longest = max(range(len(counts)), key=lambda number: counts[number])
    canvas.text(380, 24, f"cycles of each chain, modelled; the most: {counts[longest]:,}, in chain {longest}", QUIET)
    return canvas.picture(
        f"Modelled cycles of {len(counts)} chains as bars. Most has chain {longest}: {counts[longest]:,}. "
        f"Chain {chosen} has {counts[chosen]:,}."
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 3 else f"{len(names)} tensors"


def straight_through() -> Picture:
    """Forwards through rounding, backwards past it."""
    canvas = _Canvas(760, 190)
    canvas.box(20, 60, 170, 70, HOST, "wide weight|float32, is kept|and trained")
    canvas.box(295, 60, 170, 70, NPU, "narrow weight|made anew|in every step")
    canvas.box(570, 60, 170, 70, MENDED, "loss|how wrong|the answer is")
    canvas.arrow(190, 80, 291, 80, "round", NPU)
    canvas.arrow(465, 80, 566, 80, "multiply", NPU)
    canvas.arrow(655, 130, 655, 160, "", MENDED, dashed=True)
    canvas.arrow(655, 162, 107, 162, "gradient: goes back as if rounding were not there", MENDED, dashed=True)
    canvas.arrow(105, 160, 105, 134, "", MENDED, dashed=True)
    canvas.text(380, 30, "forwards (solid): narrow numbers; backwards (dashed): straight through", QUIET)
    return canvas.picture(
        "Forwards, a wide float32 weight is rounded to a narrow weight, which is multiplied with the input and leads "
        "to the loss. Backwards, the gradient goes straight to the wide weight, as if rounding were not there."
    )


def handshake() -> Picture:
    """Who holds what, and what is said before the first request."""
    canvas = _Canvas(760, 330)
    canvas.box(20, 40, 190, 270, HOST, "client||holds:|the CA's certificate,|the service key (secret)")
    canvas.box(
        550, 40, 190, 270, NPU, "server||holds:|its certificate,|its private key (secret),|the service keys (secret)"
    )
    steps = (
        (True, "1 hello, I call you localhost", QUIET),
        (False, "2 certificate: I am localhost, the CA says so", QUIET),
        (False, "3 signature made with the private key", QUIET),
        (True, "4 name, CA, dates, signature are right", MENDED),
        (True, "5 request, service key (encrypted)", WIRE),
        (False, "6 answer (encrypted)", WIRE),
    )
    for number, (to_server, words, colour) in enumerate(steps):
        y = 82 + 42 * number
        canvas.arrow(*((214, y, 546, y) if to_server else (546, y, 214, y)), words, colour)
    canvas.text(380, 24, "steps 1 to 4: once for a connection; 5 and 6: for every request", QUIET)
    return canvas.picture(
        "The client holds the CA's certificate and a service key; the server holds its certificate, its private key "
        "and the service keys. The client says which name it calls; the server sends its certificate and a signature "
        "made with its private key; the client checks name, CA, dates and signature; then requests with the service "
        "key and answers travel encrypted."
    )


def rolling() -> Picture:
    """Three replicas replaced one after the other, a new one first."""
    steps = ["old old old", "old old old new?", "old old new", "old old new new?", "old new new", "old new new new?"]
    steps.append("new new new")
    looks = {"old": (HOST, "old"), "new?": (QUIET, "starts"), "new": (NPU, "new")}
    canvas = _Canvas(760, 260)
    for column, step in enumerate(steps):
        x = 18 + 106 * column
        for row, replica in enumerate(step.split()):
            canvas.box(x, 196 - 46 * row, 84, 36, *looks[replica])
        if column + 1 < len(steps):
            canvas.arrow(x + 86, 214, x + 104, 214)
    canvas.text(380, 26, "a new replica is ready before an old one goes: three are ready at every moment", QUIET)
    return canvas.picture(
        "Three old replicas. A fourth, new one starts; when it is ready, an old one goes. The same happens twice more, "
        "until all three are new. At every moment three replicas are ready."
    )
