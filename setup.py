"""Builds the C core. Where there is no compiler the install succeeds without it: then the Python
core runs (`kobs doctor` says which one does, and why).

`KOBS_BUILD_CORE=1` makes a failed build an error, `KOBS_BUILD_CORE=0` leaves the C core out.
`KOBS_SANITIZE=address,undefined` (or `thread`) builds it with those sanitizers.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(glob("kobs/_core/src/*.c"))
WARNINGS = ["-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Wno-cast-function-type"]
FAST = ["-fno-plt", "-fno-tree-loop-distribute-patterns"]
"""A call's few arguments are copied in place: a call of `memcpy` for them costs more."""
EXACT = ["-ffp-contract=off"]
"""Results equal Python's to the last bit: no multiplication is fused with an addition, which clang
and gcc do by themselves where the processor can (arm64)."""


class BuildCore(build_ext):
    """Says once, and plainly, what follows from a build that fails."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            self.refuse_or_tell(error)

    def build_extension(self, ext: Extension) -> None:
        compile_ = self.compiler.compile

        def side_by_side(sources: list[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                made = pool.map(lambda source: compile_([source], **options), sources)
                return [file for files in made for file in files]

        self.compiler.compile = side_by_side
        try:
            super().build_extension(ext)
        except Exception as error:
            self.refuse_or_tell(error)

    def refuse_or_tell(self, error: Exception) -> None:
        if os.environ.get("KOBS_BUILD_CORE") == "1":
            raise error
        print(
            f"kobs: the C core was not built ({error}); the Python core will be used. "
            "It needs a C11 compiler and Python's headers.",
            file=sys.stderr,
        )

    def copy_extensions_to_source(self) -> None:
        for ext in self.extensions:
            if os.path.exists(self.get_ext_fullpath(ext.name)) or os.path.exists(
                os.path.join(self.build_lib, self.get_ext_filename(ext.name))
            ):
                super().copy_extensions_to_source()


def core() -> list[Extension]:
    """The extension, unless it is to be left out."""
    if os.environ.get("KOBS_BUILD_CORE") == "0":
        return []
    flags = ["-std=c11", "-O3", "-fvisibility=hidden", *FAST, *EXACT, *WARNINGS]
    linked = []
    if sanitizers := os.environ.get("KOBS_SANITIZE"):
        flags += ["-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={sanitizers}"]
        linked += [f"-fsanitize={sanitizers}"]
    return [
        Extension(
            "kobs._core._native",
            sources=SOURCES,
            depends=sorted(glob("kobs/_core/src/*.h")),
            extra_compile_args=flags,
            extra_link_args=linked,
        )
    ]


setup(ext_modules=core(), cmdclass={"build_ext": BuildCore})
