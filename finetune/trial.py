"""What a checkpoint says of the clips of a split, and how far that is what it was to say.

It is asked through the engine that production uses, in a process of its own, so that its memory is
free again when it ends. Captions are kept, a line a clip: what has been said is not asked again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from itertools import islice
from pathlib import Path

from captioner.engine_config import EngineConfig
from captioner.handover import Prepared
from captioner.result import CaptionResult
from curation.engine_process import EngineProcess
from eval.evaluation import Evaluation, evaluate
from eval.fields import labels_of
from eval.judge import SimilarityJudge
from eval.predictions import Paired, Prediction, read_predictions
from eval.testset import Clip, Truth
from finetune.frames import Clips
from finetune.targets import Target

WIDTH = 32
"""Clips that an engine is given before the first has come back."""


def caption(
    config: EngineConfig, targets: Sequence[Target], clips: Clips, into: Path
) -> list[Prediction]:
    """The engine's caption of each target that has frames, in order; kept in `into`, JSONL.

    A line is written as soon as its clip is done. Raises EngineOptionError, EngineLostError,
    OSError.
    """
    said = _said(into)
    missing = [one for one in targets if one.clip_id in clips.places and one.clip_id not in said]
    if missing:
        into.parent.mkdir(parents=True, exist_ok=True)
        with EngineProcess(config) as engine, into.open("a", encoding="utf-8") as file:
            waiting = iter(missing)
            asked = {engine.submit(_prepared(one, clips)): one for one in islice(waiting, WIDTH)}
            while asked:
                done = next(as_completed(asked))
                target = asked.pop(done)
                file.write(_line(target.clip_id, done.result()))
                file.flush()
                if (following := next(waiting, None)) is not None:
                    asked[engine.submit(_prepared(following, clips))] = following
        said = _said(into)
    return [said[one.clip_id] for one in targets if one.clip_id in said]


def _prepared(target: Target, clips: Clips) -> Prepared:
    return Prepared((clips.packed(target.clip_id),), None, target.clip_id)


def _line(clip_id: str, result: CaptionResult) -> str:
    told = {
        "clip_id": clip_id,
        "caption": result.caption and result.caption.model_dump(mode="json", by_alias=True),
        "caption_status": result.status,
        "error": result.error,
        "raw": result.raw,
    }
    return json.dumps(told, ensure_ascii=False) + "\n"


def _said(path: Path) -> dict[str, Prediction]:
    """What is in a file, without a last line that was cut short."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return {one.clip_id: one for one in read_predictions(path) if one.clip_id} if whole else {}


def score(targets: Sequence[Target], said: Sequence[Prediction]) -> Evaluation:
    """Captions against the targets, each field that a target has. One without a caption is wrong.

    Free text is judged by the likeness of its words.
    """
    by_clip: Mapping[str, Prediction] = {one.clip_id: one for one in said if one.clip_id}
    return evaluate([truth(one) for one in targets], Paired(by_clip, ()), SimilarityJudge())


def truth(target: Target) -> Truth:
    """A target as a line of a test set: what it says is right, what is empty is not asked."""
    labels = labels_of(target.caption)
    clip = Clip(
        clip_id=target.clip_id,
        path=target.video,
        sha256=target.sha256 or "0" * 64,
        start=target.start,
        end=target.end,
        concept=target.concept,
        labels=labels,
    )
    return Truth(clip, Path(target.video), labels, raters=1)
