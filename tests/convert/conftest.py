import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A JPEG that the converter has not seen."""
    noise = np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((160, 120), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SavedModel of the small quantised network."""
    from tests.convert import networks

    return networks.whole(tmp_path_factory.mktemp("quantised") / "model")
