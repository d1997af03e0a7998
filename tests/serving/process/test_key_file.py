"""Key files as people and other systems write them."""

from pathlib import Path

import pytest

from amlrealtimeai.errors import ConfigError
from amlrealtimeai.serving.process.run import _keys


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "keys"
    path.touch(0o600)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [b"first\nsecond\n", b"first\r\nsecond\r\n", b"\xef\xbb\xbffirst\r\nsecond", b"\n  first\t\n\n second \n\n"],
)
def test_one_key_on_each_line(data: bytes, tmp_path: Path) -> None:
    assert _keys(written(tmp_path, data)) == ["first", "second"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"# the keys\nsecret-key\n", "line 1: expected one key of printable ASCII characters without spaces"),
        (b"secret-key another\n", "line 1: expected one key"),
        (b"secret-key\nschl\xc3\xbcssel\n", "line 2: expected one key"),
        (b"secret-key\x00\n", "line 1: expected one key"),
        (b"secret-key\x0cs\n", "line 1: expected one key"),
        (b"secret-key\n\xe2\x80\xa8x\n", "line 2: expected one key"),
        ("secret-key\n".encode("utf-16"), "is no UTF-8 text"),
        (b"\r\n\r\n", "holds no key"),
    ],
)
def test_what_is_no_key_is_refused_and_not_said(data: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        _keys(written(tmp_path, data))
    assert "secret" not in str(caught.value)
