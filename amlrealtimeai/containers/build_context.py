"""The image's content as a Dockerfile and its build context, for systems that cannot write the image themselves."""

import json
import shutil
import sys
from importlib import metadata
from pathlib import Path

from amlrealtimeai.containers import app, base, packages
from amlrealtimeai.containers.configuration import (
    HEALTH_SECONDS,
    PORT,
    check_model,
    check_reference,
    command,
    environment,
    health_check,
    labels,
)

_TEMPLATE = """\
FROM python:{python}-slim AS kernel
COPY app /app
RUN {kernel} && \\
    python -m compileall -q --invalidation-mode unchecked-hash /app

FROM python:{python}-slim
RUN pip install --no-cache-dir --no-compile --no-deps --target /{packages} {requirements} && \\
    python -m compileall -q --invalidation-mode unchecked-hash /{packages}
COPY --from=kernel /app /app
COPY model /model
ENV {environment}
LABEL {labels}
USER {user}:{user}
WORKDIR /tmp
EXPOSE {port}/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval={interval}s --start-period={start_period}s --timeout={timeout}s CMD {health_check}
ENTRYPOINT {command}
"""
_TOOLS = ("numpy", "ziglang")
# Builds the native library where the package finds it; ziglang is a C++ compiler from PyPI.
_BUILD_KERNEL = (
    "pip install --no-cache-dir {tools} && cd /app && python -c "
    '"import pathlib, shutil; from amlrealtimeai.npu import native; built = native.library_path(); '
    "place = pathlib.Path(native.__file__).parent / built.name; "
    'built == place or shutil.copy(built, place)"'
)


def dockerfile(model: str | Path, folder: str | Path, *, name: str, tag: str) -> Path:
    """Write a Dockerfile and its build context into `folder` (made anew) and return the Dockerfile's path.

    The same content as `build_image`, on Docker Hub's python image: `docker build -t name:tag folder`. Works on every
    system; the build itself downloads packages. Raises like `build_image`.
    """
    check_reference(name, tag)
    checked = check_model(model)
    folder = Path(folder)
    for part in ("app", "model"):
        shutil.rmtree(folder / part, ignore_errors=True)
    for entry in app.sources():
        target = folder / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(entry.open().read())
    (folder / "model").mkdir(parents=True)
    shutil.copyfile(checked.path, folder / "model" / checked.path.name)
    text = _TEMPLATE.format(
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        kernel=_BUILD_KERNEL.format(tools=" ".join(map(_pinned, _TOOLS))),
        packages=packages.PLACE,
        requirements=" ".join(_pinned(found.metadata["Name"]) for found in packages.distributions()),
        environment=" ".join(f"{key}={json.dumps(value)}" for key, value in environment().items()),
        labels=" ".join(f"{key}={json.dumps(value)}" for key, value in labels(checked, name, tag).items()),
        user=base.USER,
        port=PORT,
        interval=HEALTH_SECONDS["Interval"],
        start_period=HEALTH_SECONDS["StartPeriod"],
        timeout=HEALTH_SECONDS["Timeout"],
        health_check=json.dumps(health_check()),
        command=json.dumps(command(checked, name)),
    )
    path = folder / "Dockerfile"
    path.write_text(text)
    return path


def _pinned(distribution: str) -> str:
    try:
        return f"{distribution}=={metadata.version(distribution)}"
    except metadata.PackageNotFoundError:
        return distribution
