import re
import subprocess
import sys

import numpy as np
import pytest

from amlrealtimeai import lab
from amlrealtimeai.errors import InvalidInputError, NotFoundError


def test_a_block_of_four_numbers_as_the_lesson_shows_it():
    block = lab.blocks.view([6.5, 2.5, -1.5, 0.25], lab.blocks.BlockFormat(4, 3, 8))
    assert (block.exponent, block.step, block.mantissas.tolist()) == (2, 1.0, [6, 2, -2, 0])
    assert str(block).splitlines()[0] == "shared exponent 2, step 2**0 = 1"


def test_the_dot_product_of_two_blocks_by_hand():
    answer = lab.blocks.dot([6.5, 2.5, -1.5, 0.25], [1.0, 0.5, -0.25, 3.0], lab.blocks.BlockFormat(4, 3, 8))
    assert answer == {"exact": 8.875, "reference": 7.0, "kernel": 7.0}


def test_top_names_classes_and_refuses_other_vectors():
    values = np.zeros((1, 1000))
    values[0, 277] = 0.75
    best = lab.top(values)
    assert (best.label, best.probability) == ("red fox", 0.75)
    assert str(best).splitlines()[0].split() == ["75.0", "%", "#" * 22, "red", "fox", "(277)"]
    assert "background:#0072B2;height:0.9em;width:150px" in best._repr_html_()
    with pytest.raises(InvalidInputError, match="1000 probabilities"):
        lab.top(np.zeros(10))


def test_samples_are_listed_when_one_is_missing():
    assert lab.show(lab.sample("zebra")).width == 280
    with pytest.raises(NotFoundError, match=r"there are african_elephant, .*zebra"):
        lab.sample("unicorn")


def test_names_are_lower_case_and_differ():
    first, second = lab.own_name("quickstart"), lab.own_name("quickstart")
    assert re.fullmatch(r"quickstart-[a-z0-9]+-[0-9a-f]{4}", first)
    assert first != second


def test_importing_the_package_is_light():
    script = (
        "import sys, time; begin = time.perf_counter(); import amlrealtimeai; "
        "heavy = {'tensorflow', 'onnxruntime', 'numpy', 'grpc'} & set(sys.modules); "
        "import amlrealtimeai.serving.server, amlrealtimeai.client, amlrealtimeai.accel; "
        "print(sorted(heavy), 'tensorflow' in sys.modules, 'onnx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False False"


def test_a_sheet_of_pictures():
    zebra = lab.sample("zebra")
    sheet = lab.sheet([zebra, zebra.read_bytes(), str(zebra)], columns=2, side=40)
    image = sheet.image
    assert image.size == (80, 80)
    assert image.getpixel((70, 70)) == (255, 255, 255)
    close = [abs(a - b) for a, b in zip(image.getpixel((20, 20)), image.getpixel((60, 20)), strict=True)]
    assert max(close) < 30  # JPEG
    with pytest.raises(InvalidInputError, match="the list is empty"):
        lab.sheet([])


def test_pictures_have_words_for_those_who_cannot_see_them():
    shown = lab.show(lab.sample("zebra"))
    assert (shown.width, repr(shown)) == (280, "The picture zebra.")
    assert shown._repr_html_().startswith('<img alt="The picture zebra." width="280" src="data:image/jpeg;base64,')
    captioned = lab.sheet([lab.sample("zebra")], captions=["zebra <1>"])
    assert 'alt="A sheet of zebra &lt;1&gt;."' in captioned._repr_html_()


@pytest.mark.parametrize("name", ["stages", "straight_through", "handshake"])
def test_diagrams_are_well_formed_svg_whose_words_stay_on_the_paper(name):
    import xml.etree.ElementTree as ElementTree

    drawn = getattr(lab.diagrams, name)()
    root = ElementTree.fromstring(drawn.data)
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title").text == drawn.alt and len(drawn.alt) > 80
    for text in root.iter(f"{space}text"):
        half = 7.8 * len(text.text or "") / 2
        assert half <= float(text.get("x")) <= drawn.width - half, text.text


def test_a_short_error_is_short_for_one_cell_only():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        before = shell.InteractiveTB.mode
        for _ in range(2):
            shell.run_cell(
                "from amlrealtimeai import lab\nlab.short_error()\nmode = get_ipython().InteractiveTB.mode\n1 / 0"
            )
            assert shell.user_ns["mode"] == "Minimal" and shell.InteractiveTB.mode == before
    finally:
        InteractiveShell.clear_instance()
    lab.short_error()
