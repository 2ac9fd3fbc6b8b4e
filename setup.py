# SPDX-License-Identifier: Apache-2.0
"""Build of the native core: plain C11 and a Cython binding, nothing but a C compiler and Python's headers.

`CUBBYHOLE_SANITIZE=address|undefined|thread` builds it under that sanitizer (comma-separated for several).
`CUBBYHOLE_REQUIRE_NATIVE=1` makes a failed build an error; otherwise the package installs without its core and says so on use.
"""

import os
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = "src/cubbyhole/_native"
SANITIZE = os.environ.get("CUBBYHOLE_SANITIZE", "")
CRASH_POINTS = os.environ.get(
    "CUBBYHOLE_CRASH_POINTS", ""
)  # tests/native: SIGKILL at a chosen instruction
MODULES = {
    "_segment": ["cbh_segment.c", "cbh_heap.c"],
    "_entries": [
        "cbh_dict.c",
        "cbh_history.c",
        "cbh_operate.c",
        "cbh_reclaim.c",
        "cbh_look.c",
        "cbh_stream.c",
        "cbh_bell.c",
        "cbh_segment.c",
        "cbh_heap.c",
    ],
    "_history": [
        "cbh_dict.c",
        "cbh_history.c",
        "cbh_reclaim.c",
        "cbh_stream.c",
        "cbh_bell.c",
        "cbh_segment.c",
        "cbh_heap.c",
    ],
    "_index": ["cbh_index.c", "cbh_segment.c", "cbh_heap.c"],
    "_lines": [],  # of the access log
}


def extensions():
    if not sys.platform.startswith("linux"):
        return []  # the segment is a memfd, the doorbells are eventfds
    from Cython.Build import cythonize

    flags = [
        "-std=gnu11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Wno-unused-parameter",
        "-fvisibility=hidden",
    ]
    links = []
    if SANITIZE:
        flags = [*flags, "-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={SANITIZE}"]
        links = [f"-fsanitize={SANITIZE}"]
    if CRASH_POINTS:
        flags.append("-DCBH_CRASH_POINTS")
    found = [
        Extension(
            f"cubbyhole._native.{module}",
            sources=[f"{NATIVE}/{module}.pyx", *(f"{NATIVE}/{source}" for source in sources)],
            depends=[
                f"{NATIVE}/{name}" for name in os.listdir(NATIVE) if name.endswith((".h", ".pxd"))
            ],
            include_dirs=[NATIVE],
            extra_compile_args=flags,
            extra_link_args=links,
        )
        for module, sources in MODULES.items()
        if os.path.exists(f"{NATIVE}/{module}.pyx")
    ]
    return cythonize(
        found, include_path=["src"], quiet=True, compiler_directives={"language_level": "3"}
    )


class OptionalBuild(build_ext):
    """A machine without a compiler still gets the package; what is missing is said when it is needed."""

    def run(self):
        try:
            super().run()
        except Exception as error:
            if os.environ.get("CUBBYHOLE_REQUIRE_NATIVE") or SANITIZE:
                raise
            print(
                f"cubbyhole: the native core was not built ({error}); install gcc and Python's headers",
                file=sys.stderr,
            )


setup(ext_modules=extensions(), cmdclass={"build_ext": OptionalBuild})
