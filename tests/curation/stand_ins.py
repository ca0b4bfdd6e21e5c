"""Engines that the tests put in the place of a model: what they do depends on the clip's start."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from captioner.engine_config import EngineOptionError
from captioner.engines.vlm import Generation, Request
from captioner.frames import FrameBatch
from captioner.result import CaptionResult
from captioner.schema import ShotCaption


def said(batch: FrameBatch) -> str:
    """What all of them say of a clip: its mean grey."""
    return f"grey {batch.pictures[0].grey.mean():.1f}"


class Plain:
    """One clip after another."""

    name = "plain"

    def caption(self, batches: Sequence[FrameBatch]) -> list[CaptionResult]:
        return [self.one(batch) for batch in batches]

    def one(self, batch: FrameBatch) -> CaptionResult:
        return CaptionResult("ok", self.name, ShotCaption(environment=said(batch)))

    def identity(self) -> dict[str, str]:
        return {"engine": self.name}


class Streaming(Plain):
    """Four clips at a time, the last one first, as continuous batching may."""

    name = "streaming"

    def stream(self, batches: Iterable[tuple[Any, FrameBatch]]) -> Iterator[tuple[Any, Any]]:
        running: deque[tuple[Any, FrameBatch]] = deque()
        for pair in batches:
            running.append(pair)
            if len(running) == 4:
                key, batch = running.pop()
                yield key, self.one(batch)
        while running:
            key, batch = running.pop()
            yield key, self.one(batch)


class Deadly(Streaming):
    """Dies of any clip that does not start at 0."""

    name = "deadly"

    def one(self, batch: FrameBatch) -> CaptionResult:
        if batch.start > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().one(batch)


class Spawns(Deadly):
    """Has a process and a socket of its own, as vLLM has; the file named by SPAWNED says which."""

    name = "spawns"

    def one(self, batch: FrameBatch) -> CaptionResult:
        with Path(os.environ["SPAWNED"]).open("a") as file:
            file.write(f"{subprocess.Popen(['sleep', '300']).pid}\n")
        (Path(os.environ["VLLM_RPC_BASE_PATH"]) / "socket").touch()
        return super().one(batch)


class DiesOnce(Streaming):
    """Dies in the middle of its work, once: the file named by DIED says that it has."""

    name = "dies_once"

    def one(self, batch: FrameBatch) -> CaptionResult:
        marker = Path(os.environ["DIED"])
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().one(batch)


class DiesAlways(Plain):
    """Dies of anything."""

    def one(self, batch: FrameBatch) -> CaptionResult:
        os._exit(3)


class Hangs(Plain):
    """Never answers on a clip that does not start at 0."""

    def one(self, batch: FrameBatch) -> CaptionResult:
        if batch.start > 0:
            time.sleep(1000)
        return super().one(batch)


class Raises(Plain):
    """Has a bug."""

    def one(self, batch: FrameBatch) -> CaptionResult:
        if batch.start > 0:
            raise ZeroDivisionError("a bug of its own")
        return super().one(batch)


class Fails(Plain):
    """Answers with an error where a server would be down, until the file named by UP is there."""

    name = "fails"

    def one(self, batch: FrameBatch) -> CaptionResult:
        if batch.start > 0 and not Path(os.environ["UP"]).exists():
            return CaptionResult("error", self.name, None, error="500 from the server")
        return super().one(batch)


def refuses() -> Plain:
    raise EngineOptionError("no such model: name a folder that has one")


def is_broken() -> Plain:
    raise ZeroDivisionError("a bug at the start")


class KillsItsParentOnce(Streaming):
    """Ends the process that watches over it, as a node does that is lost, once (see DIED)."""

    name = "kills_its_parent_once"

    def one(self, batch: FrameBatch) -> CaptionResult:
        marker = Path(os.environ.get("DIED", "/dev/null"))
        if batch.start > 0 and not marker.exists():
            marker.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return super().one(batch)


class Brightness:
    """Scores a clip by its mean grey."""

    def __call__(self, frames: Any) -> float:
        return float(frames.mean())


class Darkness(Brightness):
    """The same, the other way round."""

    def __call__(self, frames: Any) -> float:
        return 255 - super().__call__(frames)


class DiesOfTheDark(Brightness):
    """Dies of a clip that is darker than DARK."""

    def __call__(self, frames: Any) -> float:
        if 0 < super().__call__(frames) < float(os.environ["DARK"]) and len(frames) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(frames)


class NoNumber:
    """Gives no number."""

    def __call__(self, frames: Any) -> float:
        return float("nan")


class Opinions:
    """A model that captions, and says yes to a question the more often the brighter the clip."""

    name = "opinions"
    context = 32_768

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        return [generation for _, generation in self.stream(enumerate(requests))]

    def stream(self, requests: Iterable[tuple[Any, Request]]) -> Iterator[tuple[Any, Generation]]:
        for key, request in requests:
            assert request.video is not None
            grey = float(request.video.frames.mean()) / 255
            said = ShotCaption(environment=f"grey {grey:.3f}").to_json()
            shares = (grey, 1 - grey) if request.choices else ()
            yield key, Generation("" if shares else said, "stop", shares=shares)

    def identity(self) -> dict[str, str]:
        return {"engine": self.name}


class Writer:
    """A language model: notes in the file named by ASKED what it is asked, dies after DIES_AFTER
    answers, and fails while the file named by UP is not there."""

    name = "writer"

    def stream(self, requests: Iterable[tuple[Any, Request]]) -> Iterator[tuple[Any, Generation]]:
        for count, (key, request) in enumerate(requests):
            if count == int(os.environ.get("DIES_AFTER", "-1")):
                os.kill(os.getpid(), signal.SIGKILL)
            if not Path(os.environ.get("UP", "/")).exists():
                yield key, Generation("", "error", "Traceback:\n500 from the server")
                continue
            with Path(os.environ.get("ASKED", os.devnull)).open("a") as file:
                file.write(f"{hash(request.prompt)}\n")
            yield key, Generation(f"Prose of {len(request.prompt)} characters", "stop")

    def identity(self) -> dict[str, str]:
        return {"engine": self.name}
