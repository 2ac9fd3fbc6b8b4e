# SPDX-License-Identifier: Apache-2.0
"""A Dockerfile for a server's script.

Flow:  cli/dockerize.py -> `dockerize` -> ./Dockerfile
"""

from __future__ import annotations

import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPU_DOCKERFILE = """ARG PYTHON_VERSION=3.12
FROM python:$PYTHON_VERSION-slim

WORKDIR /app
COPY . /app

RUN pip install --no-cache-dir {packages}

EXPOSE {port}

CMD ["python", "/app/{file}"]
"""

GPU_DOCKERFILE = """# Change CUDA and Python versions here
FROM nvidia/cuda:12.4.1-base-ubuntu22.04
ARG PYTHON_VERSION=3.12

ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get install -y --no-install-recommends \\
        software-properties-common curl \\
    && add-apt-repository ppa:deadsnakes/ppa \\
    && apt-get update && apt-get install -y --no-install-recommends \\
        python$PYTHON_VERSION python$PYTHON_VERSION-dev python$PYTHON_VERSION-venv \\
    && curl -sS https://bootstrap.pypa.io/get-pip.py | python$PYTHON_VERSION \\
    && ln -sf /usr/bin/python$PYTHON_VERSION /usr/local/bin/python \\
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY . /app

RUN python -m pip install --no-cache-dir {packages}

EXPOSE {port}

CMD ["python", "/app/{file}"]
"""

DONE = """Dockerfile created successfully at {path}
Update {path} to add any additional dependencies or commands.

Build the container with:
> docker build -t cubbyhole-model .

To run the container on the machine:
> docker run -p {port}:{port}{gpus} cubbyhole-model

To push the container to a registry:
> docker push cubbyhole-model
"""


def dockerize(server_filename: str, port: int = 8000, gpu: bool = False) -> None:
    """Write `Dockerfile` into the current folder, and say what to do with it.

    The server in the image must listen on all addresses: `server.run(host="0.0.0.0")`.

    Args:
        server_filename: Script that runs the server, in the current folder.
        port: On which it listens.
        gpu: An image with CUDA.

    Raises:
        FileNotFoundError: there is no such script here.
    """
    folder = Path.cwd()
    if not (folder / server_filename).exists():
        raise FileNotFoundError(
            f"Server file `{server_filename}` must be in the current directory: {folder}"
        )
    packages = _requirement()
    if (folder / "requirements.txt").exists():
        packages += " -r requirements.txt"
    else:
        warnings.warn(
            f"requirements.txt not found at {folder}. "
            "Make sure to install the required packages in the Dockerfile.",
            UserWarning,
            stacklevel=2,
        )
    template = GPU_DOCKERFILE if gpu else CPU_DOCKERFILE
    path = folder / "Dockerfile"
    path.write_text(template.format(packages=packages, port=port, file=server_filename))
    gpus = " --gpus all" if gpu else ""
    print(DONE.format(path=path, port=port, gpus=gpus))  # noqa: T201  (LitServe's: it is a tool for the terminal)


def _requirement() -> str:
    try:
        return f"cubbyhole=={version('cubbyhole')}"
    except PackageNotFoundError:  # run from a source tree
        return "cubbyhole"
