"""The benchmarks run, on the smallest network there is, and say what they should; their figures are not judged here."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from amlrealtimeai import npu
from benchmarks import bits, engines, measuring, networks

ROOT = Path(__file__).parents[2]
SMALL = "ssdvgg300_block4"


def output_of(*arguments: str) -> str:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_featurizer_measures_every_engine():
    text = output_of(
        "benchmarks.featurizer", "--networks", SMALL, "--threads", "1", "--rounds", "1", "--formats", "bw_cnn"
    )
    assert "ssdvgg300_block4: 0.63 GMAC" in text
    rows = re.findall(r"^\| (\S.*?) +\| +([\d.]+) \| +([\d.]+) \| +([\d.]+) \| +([\d.]+) \| +(\d+) \|$", text, re.M)
    assert [row[0] for row in rows] == ["npu bw_cnn", *engines.peers()]
    assert all(float(row[1]) > 0 and int(row[5]) > 20 for row in rows)
    assert {row[0]: row[3] for row in rows}["onnxruntime fp32"] == "1.00"


def test_peak_has_a_row_for_every_instruction_set():
    text = output_of("benchmarks.peak", "--networks", SMALL, "--rounds", "3", "--formats", "bw_cnn")
    shares = re.findall(r"\| +bw_cnn \| +(\w+) \|.* (\d+)% \|$", text, re.M)
    assert [isa for isa, _ in shares] == [isa for isa in npu.kernel_info()["available"] if isa != "generic"]
    assert all(int(share) > 0 for _, share in shares), text


def test_bits_prints_a_row_and_finds_a_wrong_bit():
    text = output_of("benchmarks.bits", "--networks", SMALL, "--formats", "msfp12", "--threads", "1")
    assert re.search(r"^ssdvgg300_block4 +msfp12 +2 +136,900 +same bits", text, re.M)
    document = networks.model(SMALL)
    program, image = npu.compile(document), networks.image(document)
    expected = npu.reference.run(program, image, trace=True)
    last = program.chains[-1].writes
    expected[last] = np.nextafter(expected[last], np.float32(9e9))
    (report,) = bits.mismatches(program, image, expected, ["generic"], [1])
    assert report.startswith("generic, 1 threads") and "chain 1 (block4_box/conv_loc_nchw)" in report


def test_an_engine_starts_in_a_process_of_its_own(tmp_path):
    engines.prepare(SMALL, tmp_path, ["msfp16"], peers=False)
    found = measuring.memory(tmp_path, SMALL, "npu msfp16", 1)
    assert isinstance(found, measuring.Memory)
    assert 0 < found.load_seconds < 60
    assert 15 < found.before < found.resident < 500
    assert "ssdvgg300_block4.msfp11.npu" in str(measuring.memory(tmp_path, SMALL, "npu msfp11", 1))


def test_runs_take_turns():
    order = []
    runs = {name: (lambda image, name=name: order.append(name), np.zeros(1)) for name in ("a", "b")}
    times = measuring.in_turns(runs, 2)
    assert order == ["a", "b"] * (measuring.WARM_UP + 2)
    assert {name: values.shape for name, values in times.items()} == {"a": (2,), "b": (2,)}


def test_tables_are_markdown():
    assert measuring.table(["engine", "ms"], [["a", "1.50"], ["long", "12"]]) == (
        "| engine |   ms |\n| ------ | ---: |\n| a      | 1.50 |\n| long   |   12 |"
    )


def test_a_kernel_that_is_wrong_is_not_timed(tmp_path, monkeypatch):
    from benchmarks import featurizer

    engines.prepare(SMALL, tmp_path, ["bw_cnn"], peers=False)
    featurizer.check_bits(tmp_path, SMALL, ["bw_cnn"])
    np.save(tmp_path / "other.npy", np.load(tmp_path / f"{SMALL}.npy") + 1)
    right = npu.reference.run
    monkeypatch.setattr(npu.reference, "run", lambda program, x: right(program, np.load(tmp_path / "other.npy")))
    with pytest.raises(SystemExit, match="a speed would mean nothing"):
        featurizer.check_bits(tmp_path, SMALL, ["bw_cnn"])
