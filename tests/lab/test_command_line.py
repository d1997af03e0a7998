"""The commands as people run them: every wrong argument is one sentence, a closed pipe is no traceback."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from amlrealtimeai import command_line
from amlrealtimeai.__main__ import main
from amlrealtimeai.core.certificates import development_certificate
from amlrealtimeai.lab.security import small_model
from amlrealtimeai.serving.ports.tls import Tls
from amlrealtimeai.serving.server import Server

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "data" / "images" / "red_fox.jpg"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def status_of(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


WRONG_NUMBERS = {
    ("serve", "MODEL", "--port"): ["99999", "65536", "-1", "http", "", "1.5", "0x50", "50051 50052"],
    ("serve", "MODEL", "--rest-port"): ["99999", "-1", "none"],
    ("serve", "MODEL", "--threads"): ["0", "-2", "all", "1.0", str(2**40)],
    ("serve", "MODEL", "--model-version"): ["0", "-1", "v1", str(2**63)],
    ("serve", "MODEL", "--grace"): ["-1", "nan", "inf", "soon"],
    ("serve", "MODEL", "--max-silence"): ["-0.5", "nan", "x"],
    ("serve", "MODEL", "--with-parent"): ["0", "-1", "me"],
    ("serve", "MODEL", "--log-level"): ["loud"],
    ("serve", "MODEL", "--log-format"): ["xml"],
    ("bench", "MODEL", "PICTURE", "--count"): ["0", "-1", "many", "2.5", "", str(2**31)],
    ("bench", "MODEL", "PICTURE", "--threads"): ["0", "-1", "two"],
    ("score", "PICTURE", "--timeout"): ["0", "-1", "nan", "inf", "later"],
    ("score", "PICTURE", "--address"): [
        "here", "127.0.0.1", "127.0.0.1:", ":50051", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:0", "a b:1",
        "127.0.0.1:http", "::1:50051", "[::1]", "", "key@host:1", "host:1/path",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "value"), [(command, value) for command, values in WRONG_NUMBERS.items() for value in values]
)
def test_a_wrong_value_is_named_in_one_sentence_with_status_2(command, value, model, capsys):
    places = {"MODEL": str(model), "PICTURE": str(PICTURE)}
    filled = [places.get(word, word) for word in command]
    assert status_of(*filled[:-1], f"{filled[-1]}={value}") == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and command[-1] in err and not out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["sevre"], "'sevre'"),
        (["doctor", "now"], "now"),
        (["quickstart", "--fast"], "--fast"),
        (["score"], "image"),
        (["score", "nofile.jpg"], "no file 'nofile.jpg'"),
        (["score", "FOLDER"], "FOLDER"),
        (["score", "PICTURE", "--root-certificate", "nofile.pem"], "nofile.pem"),
        (["score", "PICTURE", "--root-certificate", "FOLDER"], "FOLDER"),
        (["score", "PICTURE", "--root-certificate", "PICTURE", "--address", "127.0.0.1:1"], "PICTURE"),
        (["convert", "README.md"], "result"),
        (["convert", "nothing.onnx", "new.accelonnx"], "nothing.onnx"),
        (["convert", "README.md", "new.accelonnx"], "README.md as an ONNX model"),
        (["convert", "FOLDER", "new.accelonnx"], "expected one .onnx file in the folder"),
        (["convert", "README.md", "FOLDER"], "FOLDER is a folder"),
        (["convert", "README.md", "new.accelonnx", "--format", "msfp99"], "msfp99"),
        (["inspect"], "program"),
        (["inspect", "README.md"], "expected a converted model"),
        (["inspect", "FOLDER"], "FOLDER"),
        (["inspect", "nothing.npu"], "nothing.npu"),
        (["inspect", "MODEL"], "no NPU stage"),
        (["bench", "MODEL"], "image"),
        (["bench", "nothing.accelonnx", "PICTURE"], "nothing.accelonnx"),
        (["bench", "PICTURE", "PICTURE"], "red_fox.jpg is not a usable"),
        (["bench", "MODEL", "nofile.jpg"], "nofile.jpg"),
        (["bench", "MODEL", "README.md"], "not a JPEG or PNG"),
        (["serve"], "nothing to serve"),
        (["serve", "nothing.accelonnx"], "nothing.accelonnx"),
        (["serve", "FOLDER"], "FOLDER"),
        (["serve", "README.md"], "README.md"),
        (["serve", "--watch", "typo.json"], "cannot use typo.json: No such file"),
        (["serve", "--watch", "FOLDER"], "cannot use FOLDER"),
        (["serve", "--watch", "README.md"], "cannot use README.md"),
        (["serve", "--supervise", "--watch", "typo.json"], "cannot use typo.json: No such file"),
        (["serve", "MODEL", "--limit", "max_batch"], "'max_batch'"),
        (["serve", "MODEL", "--limit", "max_butch=3"], "'max_butch=3'"),
        (["serve", "MODEL", "--limit", "max_batch=-3"], "max_batch"),
        (["serve", "MODEL", "--limit", "max_seconds=nan"], "max_seconds"),
        (["serve", "MODEL", "--limit", "max_wait_seconds=inf"], "max_wait_seconds"),
        (["serve", "MODEL", "--limit", f"max_streams={2**40}"], "max_streams"),
        (["serve", "MODEL", "--ssl-cert", "README.md"], "--ssl-key"),
        (["serve", "MODEL", "--ssl-cert", "nofile.pem", "--ssl-key", "nofile.pem"], "nofile.pem"),
        (["serve", "MODEL", "--ssl-cert", "FOLDER", "--ssl-key", "FOLDER"], "FOLDER"),
        (["serve", "MODEL", "--client-ca", "README.md"], "--client-ca"),
        (["serve", "MODEL", "--key-file", "nofile.txt"], "nofile.txt"),
        (["serve", "MODEL", "--key-file", "FOLDER"], "FOLDER"),
        (["serve", "MODEL", "--port", "45677", "--rest-port", "45677"], "both 45677"),
    ],
)
def test_what_cannot_be_is_refused_with_status_2(arguments, said, model, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(ROOT)
    places = {"MODEL": str(model), "PICTURE": str(PICTURE), "FOLDER": str(tmp_path)}
    assert status_of(*(places.get(word, word) for word in arguments)) == 2
    _, err = capfd.readouterr()
    for word, value in places.items():
        said = said.replace(word, value)
    assert err.startswith("error: ") and said in err and "Traceback" not in err


def test_a_key_file_that_is_no_text_and_a_port_file_that_cannot_be_written(model, tmp_path, capfd):
    (tmp_path / "keys").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "keys").chmod(0o600)
    assert status_of("serve", model, "--key-file", tmp_path / "keys") in (1, 2)
    assert status_of("serve", model, "--port", 0, "--port-file", tmp_path / "no" / "folder") == 1
    err = capfd.readouterr().err
    assert err.count("error: ") == 2 and "Traceback" not in err


def test_a_port_that_is_taken_is_named(model, capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert status_of("serve", model, "--port", number) == 1
        assert status_of("serve", model, "--port", 0, "--rest-port", number) == 1
    err = capfd.readouterr().err
    assert err.count(f"port {number} is taken") == 2 and "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:50051", ("::1", 50051)),
        ("http://127.0.0.1:80/", ("127.0.0.1", 80)),
        ("https://example.org:443", ("example.org", 443)),
    ],
)
def test_addresses(text, address):
    assert command_line.address(text) == address


def test_the_edges_of_a_port_are_ports():
    assert [command_line.port_or_free(text) for text in ("0", "65535")] == [0, 65535]
    assert [command_line.port(text) for text in ("1", "65535")] == [1, 65535]


@contextmanager
def reader_that_leaves():
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


def program_file(folder: Path) -> Path:
    from amlrealtimeai.lab import blocks

    path = folder / "dot.npu"
    blocks.dot_program([1.0, 2.0, 3.0, 4.0], blocks.BlockFormat(4, 3, 8)).save(path)
    return path


def test_a_reader_that_leaves_is_no_traceback(model, tmp_path):
    program = program_file(tmp_path)
    with Server() as server, reader_that_leaves() as closed:
        from amlrealtimeai.artifact.converted import ConvertedModel

        server.add_model("colour", ConvertedModel.load(model))
        address = f"127.0.0.1:{server.port}"
        commands = [
            ["inspect", program], ["inspect", program, "--timing"], ["bench", model, PICTURE, "--count", "1"],
            ["score", PICTURE, "--address", address], ["doctor"],
        ]  # fmt: skip
        for command in commands:
            words = [sys.executable, "-m", "amlrealtimeai", *map(str, command)]
            done = subprocess.run(words, stdout=closed, stderr=subprocess.PIPE, text=True, cwd=ROOT)
            assert (done.returncode, done.stderr) == (141, ""), command


def test_a_server_goes_on_when_nobody_reads_what_it_prints(model, tmp_path):
    ports = tmp_path / "ports"
    words = [sys.executable, "-m", "amlrealtimeai", "serve", model, "--port=0", "--rest-port=0", "--port-file", ports]
    with reader_that_leaves() as closed:
        running = subprocess.Popen([*map(str, words)], stdout=closed, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        while not ports.exists():
            assert running.poll() is None, running.stderr and running.stderr.read()
        assert status_of("score", PICTURE, "--address", f"127.0.0.1:{ports.read_text().split()[0]}") == 0
    finally:
        running.terminate()
        _, err = running.communicate()
    assert (running.returncode, err) == (0, "")


def test_score_with_tls_and_a_key(model, tmp_path, capsys, monkeypatch):
    from amlrealtimeai.artifact.converted import ConvertedModel

    made = development_certificate(["localhost"])
    (tmp_path / "ca.pem").write_text(made.ca)
    with Server(tls=Tls(made.certificate.encode(), made.key.encode()), keys=["the-key"]) as server:
        server.add_model("colour", ConvertedModel.load(model))
        asked = ["score", PICTURE, "--address", f"localhost:{server.port}", "--timeout", "5"]
        trusting = [*asked, "--root-certificate", tmp_path / "ca.pem"]
        assert status_of(*trusting, "--key", "the-key") == 0
        monkeypatch.setenv("AMLREALTIMEAI_KEY", "the-key")
        assert status_of(*trusting) == 0
        assert capsys.readouterr().out.count("[167") == 2
        for arguments, said in (
            ([*trusting, "--key", "another"], "UNAUTHENTICATED"),
            ([*asked, "--tls"], "not trusted"),
            (asked, "wants TLS"),
        ):
            assert status_of(*arguments) == 1
            assert said in capsys.readouterr().err


def test_another_python_is_told_where_the_packages_are(tmp_path):
    """A Python without NumPy: `-S -I` hides this one's site-packages."""
    words = "import sys; sys.path.insert(0, sys.argv.pop(1)); from amlrealtimeai.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-S", "-I", "-c", words, str(ROOT), "inspect", "README.md"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    mend = "has put it into" if (ROOT / ".venv" / "ready").exists() else "make setup"
    assert done.stderr.startswith("error: ") and "has no package" in done.stderr and mend in done.stderr


def test_the_watched_file_is_read_before_anything_is_served(tmp_path, capfd):
    for number, content in enumerate(["{", "[]", '{"services": []}', '{"services": {"a": {"model": 3}}}', "null"]):
        path = tmp_path / f"{number}.json"
        path.write_text(content)
        assert status_of("serve", "--watch", path) == 2
        assert capfd.readouterr().err.startswith(f"error: cannot use {path}: ")


def test_an_older_python_is_told_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 6, "final", 0))
    assert status_of("doctor") == 2
    assert "Python 3.9.6 is too old, 3.11 to 3.13 is needed; " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["__init__", "__main__", "command_line", "errors", "lazy", "retired"])
def test_what_is_read_before_that_can_be_read_by_an_older_python(name):
    import ast

    source = (ROOT / "amlrealtimeai" / f"{name}.py").read_text()
    ast.parse(source, feature_version=(3, 9))
    assert " | None" not in source or "from __future__ import annotations" in source


@pytest.mark.parametrize(
    ("module", "arguments", "status", "said"),
    [
        ("lab.evaluate", ["--count", "0"], 2, "--count"),
        ("lab.evaluate", ["--others", "-1"], 2, "--others"),
        ("lab.evaluate", ["--threads", "0"], 2, "--threads"),
        ("lab.training.__main__", [], 2, "folder"),
        ("lab.training.__main__", ["f", "--threads", "0"], 2, "--threads"),
        ("lab.training.__main__", ["f", "--workers", "-1"], 2, "--workers"),
        ("lab.training.__main__", ["f", "--held-out-every", "nan"], 2, "--held-out-every"),
        ("lab.release", [], 2, "folder"),
        ("accel.models.codec", ["nofile.npz", "out.npz"], 1, "nofile.npz"),
        ("accel.models.codec", ["README.md", "out.npz"], 1, "README.md"),
        ("accel.models.codec", ["README.md", "out.npz", "--swap", "1"], 2, "--swap"),
    ],
)
def test_the_other_commands(module, arguments, status, said, capsys, monkeypatch):
    from importlib import import_module

    monkeypatch.chdir(ROOT)
    command = import_module(f"amlrealtimeai.{module}")
    try:
        found = command.main(arguments)
    except SystemExit as end:
        found = end.code
    assert found == status and said in capsys.readouterr().err


def test_quickstart_ends_at_ctrl_c_and_so_does_its_kernel(tmp_path):
    slow = f"import time\nopen({str(tmp_path / 'runs')!r}, 'w')\ntime.sleep(99)"
    nbformat.write(new_notebook(cells=[new_code_cell(slow)]), tmp_path / "slow.ipynb")
    script = (
        "import signal, sys; from pathlib import Path; from amlrealtimeai.lab import quickstart\n"
        "from amlrealtimeai.__main__ import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"quickstart._notebook = lambda name: Path({str(tmp_path / 'slow.ipynb')!r})\n"
        "sys.exit(main(['quickstart']))"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen([sys.executable, "-c", script], start_new_session=True, **pipes)
    while not (tmp_path / "runs").exists():
        assert running.poll() is None, running.stderr and running.stderr.read()
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130 and "Traceback" not in err, err
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)
