"""Boxes on pictures, the outputs as a table, and what was found and missed: in pixels and in words."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from amlrealtimeai import lab
from amlrealtimeai.accel.models import ssdvgg
from amlrealtimeai.errors import InvalidInputError, NotFoundError
from amlrealtimeai.lab import detection, images
from amlrealtimeai.lab.images import Box
from amlrealtimeai.lab.style import HOST, NPU, OBJECTS
from tests.lab.detected import CAR, CAT, DOG, outputs

GREY = np.full((200, 400, 3), 128, np.uint8)
LEFT, RIGHT = (0.2, 0.1, 0.8, 0.4), (0.2, 0.6, 0.8, 0.9)


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB")).astype(int)


def near(colour, pixel):
    """Whether a pixel has about that colour: JPEG blurs thin lines."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return np.abs(pixel - wanted).max() < 70


def test_a_box_stands_where_it_was_found_with_its_voc_name():
    drawn = detection.draw(GREY, np.array([CAT]), np.array([0.934]), np.array([LEFT]), width=400)

    assert repr(drawn) == "Boxes on a picture: cat 93 % halfway down, left."
    seen = pixels(drawn)
    assert seen.shape == (200, 400, 3)
    assert near(HOST, seen[100, 40]) and near(HOST, seen[100, 159]) and near(HOST, seen[159, 100])
    assert np.abs(seen[100, 100] - 128).max() < 10 and np.abs(seen[100, 300] - 128).max() < 10
    assert (seen[18:38, 44:80].min(), seen[18:38, 44:80].max()) < (80, 256)  # the tag: dark words on white


def test_names_of_boxes_side_by_side_do_not_cover_each_other():
    beside, white = (LEFT[0], LEFT[1] + 0.05, *LEFT[2:]), np.full((300, 600, 3), 255, np.uint8)

    def dark(*boxes):
        classes, scores = [CAT] * len(boxes), [0.9] * len(boxes)
        return int((pixels(detection.draw(white, classes, scores, boxes, width=400)).max(2) < 60).sum())

    assert dark(LEFT, beside) > 1.9 * dark(LEFT)  # pixels of letters


def test_names_of_many_boxes_at_the_bottom_do_not_cover_each_other():
    low, white = (0.7, 0.3, 0.9, 0.6), np.full((400, 400, 3), 255, np.uint8)

    def dark(count):
        drawn = detection.draw(white, [CAT] * count, [0.9] * count, [low] * count, width=400)
        return int((pixels(drawn).max(2) < 60).sum())

    assert dark(10) > 9 * dark(1)  # pixels of letters


def test_missed_objects_are_dashed_and_said():
    truth = [Box(CAT, *LEFT), Box(DOG, *RIGHT)]
    drawn = detection.draw(GREY, [CAT], [0.9], [LEFT], truth=truth, width=400)

    assert repr(drawn) == "Boxes on a picture: cat 90 % halfway down, left; a missed dog halfway down, right."
    edge = pixels(drawn)[45:155, 240]
    dashes = sum(near(NPU, pixel) for pixel in edge)
    assert 30 < dashes < 90
    assert repr(detection.draw(GREY, [], [], np.empty((0, 4)))) == "A picture without a box on it."


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (40, 300), (300, 40)])
def test_any_picture_is_drawn_on(mode, size, tmp_path):
    path = tmp_path / f"picture.{'tif' if mode == 'CMYK' else 'png'}"
    Image.new(mode, size, 0).save(path)
    for picture in (path, str(path), Image.open(path)):
        drawn = detection.draw(picture, [CAR], [0.5], [(0, 0, 1, 1)], width=120)
        assert drawn.image.width == 120 and "car 50 %" in repr(drawn)
    grey = np.zeros((7, 9), np.uint8)
    assert detection.draw(grey, [CAR], [0.5], [(-0.5, 0.9, 1.5, 0.1)]).image.width == 420


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (([CAT], [0.9], [LEFT, RIGHT]), r"the shapes \(1,\), \(1,\) and \(2, 4\)"),
        (([0], [0.9], [LEFT]), "whole numbers 1 to 20; got \\[0\\]"),
        (([21], [0.9], [LEFT]), "whole numbers 1 to 20"),
        (([8.5], [0.9], [LEFT]), "whole numbers 1 to 20"),
        (([CAT], [np.nan], [LEFT]), "finite"),
        (([CAT], [0.9], [(0, 0, np.inf, 1)]), "finite"),
    ],
)
def test_what_does_not_fit_is_said(given, said):
    with pytest.raises(InvalidInputError, match=said):
        detection.draw(GREY, *given)


def test_pictures_that_are_none_are_said(tmp_path):
    words = tmp_path / "words.jpg"
    words.write_text("no picture")
    with pytest.raises(NotFoundError, match=r"no picture at nowhere\.jpg"):
        detection.draw("nowhere.jpg", [], [], [])
    with pytest.raises(InvalidInputError, match=r"words\.jpg is not a picture"):
        detection.draw(words, [], [], [])
    with pytest.raises(InvalidInputError, match="uint8"):
        detection.draw(GREY / 255, [], [], [])
    with pytest.raises(InvalidInputError, match="expected a path, an image or an array as picture, got None"):
        detection.draw(None, [], [], [])
    with pytest.raises(InvalidInputError, match="is not a picture"):
        detection.draw(tmp_path, [], [], [])
    whole = images.save_jpeg(tmp_path / "whole.jpg", np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8))
    words.write_bytes(whole.read_bytes()[:900])
    with pytest.raises(InvalidInputError, match=r"words\.jpg is not a picture .*truncated"):
        detection.draw(words, [], [], [])


def test_a_picture_of_any_shape_is_drawn():
    for size in ((1, 3000), (3000, 1), (1, 1)):
        assert "cat" in detection.draw(Image.new("RGB", size), [CAT], [0.5], [LEFT]).alt


def test_boxes_belong_to_objects_as_voc_counts():
    truth = [Box(CAT, *LEFT), Box(CAT, *RIGHT), Box(DOG, 0, 0.45, 1, 0.55)]
    shifted = (0.2, 0.15, 0.8, 0.45)  # overlaps LEFT by 5/7
    far = (0.2, 0.25, 0.8, 0.55)  # by 1/3
    seen = detection.compare(truth, [CAT, CAT, CAT, CAR, DOG], [LEFT, shifted, far, RIGHT, RIGHT])

    assert seen.hits == ((0, 0),) and seen.doubled == (1,) and seen.extra == (2, 3, 4) and seen.missed == (1, 2)
    assert str(seen) == (
        "1 of 3 objects found; missed: cat, dog; found twice: cat; where none of that kind is: cat, car, dog"
    )
    assert str(detection.compare([], [], [])) == "0 of 0 objects found"
    assert str(detection.compare(truth[:1], [], [])) == "0 of 1 objects found; missed: cat"


def test_anchors_of_six_blocks():
    drawn = detection.draw_anchors(GREY)
    assert "block4: 37 x 37 sites with 4 anchors, the smallest square of 7 % of the side" in repr(drawn)
    assert "block11: 1 x 1 sites with 4 anchors, the smallest square of 87 %" in repr(drawn)
    seen = pixels(drawn)
    # block 11: a square of 261 of 300 pixels around the middle of the last panel, which is 230 pixels wide
    left, top = 2 * 238 + round(230 * (1 - 0.87) / 2), 256 + 22 + 115
    assert any(near(OBJECTS[0], seen[top + 3, x]) for x in range(left - 2, left + 3))


def test_the_outputs_by_name():
    names = [f"block{block}_box/{part}" for part in ("Reshape_1", "Reshape") for block in (4, 7, 8, 9, 10, 11)]
    lines = str(detection.outputs_table(dict(zip(names, outputs(), strict=True)))).splitlines()

    assert lines[0].split() == ["output", "shape", "what", "it", "says"]
    assert lines[1].split(maxsplit=1) == [
        "block4_box/Reshape_1",
        "(1, 37, 37, 4, 21)  21 class scores of 5,476 anchors",
    ]
    assert lines[12].endswith("(1, 1, 1, 4, 4)     x, y, w, h: how to move and stretch of 4 anchors")
    html = detection.outputs_table({"<a>": outputs()[5]})._repr_html_()
    assert "&lt;a&gt;" in html and html.count("<tr>") == 2


SEEN = ((CAT, 0.9, LEFT), (CAT, 0.6, (0.2, 0.15, 0.8, 0.45)), (DOG, 0.25, RIGHT), (CAR, 0.45, (0, 0, 0.1, 0.1)))


def test_thresholds_and_the_slider_say_the_same():
    truth = [Box(CAT, *LEFT), Box(DOG, *RIGHT)]
    table = detection.thresholds(outputs(*SEEN), truth, (0.2, 0.3, 0.5))
    assert [row for row in table.rows] == [
        ("0.20", "3", "2", "0", "0", "1"),
        ("0.30", "2", "1", "1", "0", "1"),
        ("0.50", "1", "1", "1", "0", "0"),
    ]
    select, nms, shown = lab.widgets.threshold_slider(GREY, outputs(*SEEN)).children
    assert shown.value.endswith("<br>1 box") and "cat 90 %" in shown.value
    select.value = 0.2
    assert "3 boxes" in shown.value and "dog 25 %" in shown.value
    nms.value = 0.9
    assert "4 boxes" in shown.value and "cat 60 %" in shown.value


def test_drawn_is_what_postprocess_returns():
    drawn = detection.draw(GREY, *ssdvgg.postprocess(outputs(*SEEN), select_threshold=0.2))
    assert repr(drawn) == (
        "Boxes on a picture: cat 90 % halfway down, left; car 45 % at the top, left; dog 25 % halfway down, right."
    )


@pytest.mark.parametrize("given", ["picture", "file"])
def test_sixteen_bits_keep_their_shades(given, tmp_path):
    """A ramp from black to white, whose upper halves would all be white if values were cut off at 255."""
    ramp = Image.fromarray(np.repeat(np.linspace(0, 65535, 400)[None], 100, axis=0).astype(np.uint16))
    if given == "file":
        ramp.save(tmp_path / "ramp.png")
        ramp = tmp_path / "ramp.png"

    seen = pixels(detection.draw(ramp, [], [], [], width=400))
    assert [seen[50, x].mean() for x in (2, 100, 200, 300, 397)] == pytest.approx([1, 64, 128, 191, 254], abs=4)
    if given == "file":
        assert pixels(lab.pictures.show(ramp, 400))[50, 200].mean() == pytest.approx(128, abs=4)
        assert 90 < pixels(lab.pictures.sheet([ramp], side=98))[48, 48].mean() < 160


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: detection.draw(GREY, [], [], [], width=0), "width: expected 1 to 2000 pixels, got 0"),
        (lambda: detection.draw(GREY, [], [], [], width=100_000), "width: expected 1 to 2000 pixels, got 100000"),
        (lambda: detection.draw_anchors(GREY, side=-3), "side: expected 1 to 2000 pixels, got -3"),
        (lambda: detection.draw_anchors(GREY, side="a"), "side: expected 1 to 2000 pixels, got 'a'"),
        (lambda: detection.draw(np.array(3, np.uint8), [], [], []), r"expected a picture uint8 .* got uint8 \(\)"),
        (lambda: detection.draw(np.zeros(4, np.uint8), [], [], []), r"expected a picture uint8 .* got uint8 \(4,\)"),
        (lambda: detection.draw(GREY, [CAT], ["sure"], [LEFT]), "scores and boxes have to be finite numbers"),
        (lambda: detection.draw(GREY, [CAT], [0.9j], [LEFT]), "scores and boxes have to be finite numbers"),
        (lambda: detection.draw(GREY, [CAT, DOG], [0.9, 0.8], [LEFT, (0,)]), "expected classes .k., scores .k. and"),
        (lambda: detection.compare([], [CAT, CAT], [LEFT]), "expected classes .k., scores .k. and boxes"),
        (lambda: detection.compare([], [99], [LEFT]), "expected classes of PASCAL VOC, whole numbers 1 to 20"),
        (lambda: detection.compare([], [CAT], [LEFT], overlap=np.nan), "overlap is a share: expected 0 to 1, got nan"),
        (lambda: detection.outputs_table({"a": np.zeros(3)}), r"a: expected an output .*, got \(3,\)"),
    ],
)
def test_what_cannot_be_drawn_or_compared_is_said(call, said):
    with pytest.raises(InvalidInputError, match=said):
        call()


def test_files_that_are_no_pictures_are_said_wherever_pictures_are_shown(tmp_path):
    """One of them says that it has ten thousand million pixels."""
    Image.new("L", (1, 1)).save(tmp_path / "small.png")
    data = bytearray((tmp_path / "small.png").read_bytes())
    data[16:24] = (100_000).to_bytes(4) * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
    (tmp_path / "huge.png").write_bytes(data)
    (tmp_path / "text.jpg").write_text("no picture")
    for path in (tmp_path / "huge.png", tmp_path / "text.jpg"):
        for show in (lab.show, lambda path: lab.pictures.sheet([path]), lambda path: detection.draw(path, [], [], [])):
            with pytest.raises(InvalidInputError, match=f"{path.name} is not a picture that could be opened"):
                show(path)
    with pytest.raises(NotFoundError, match=r"no picture at .*none\.jpg"):
        lab.show(tmp_path / "none.jpg")
    with pytest.raises(InvalidInputError, match=r"^2 bytes is not a picture"):
        lab.pictures.sheet([b"no"])
