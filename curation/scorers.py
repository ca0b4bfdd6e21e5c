"""Scores of clips by models that a preset names in its section `models`:

    models:
      aesthetic: {model: google/siglip-so400m-patch14-384, head: aesthetic.safetensors}
      animation: {model: openai/clip-vit-base-patch32, text: [a cartoon, a film of real people]}
      watermark: {model: OWNER/NAME, label: watermark}
      quality: {model: "my_module:Dover"}
      embedding: {model: facebook/dinov2-base}
      surveillance: {question: "Is this the recording of a surveillance camera?"}
    rules:
      - model_aesthetic: {min: 4.5}

Every clip gets each score, in batches, in one process on a GPU where there is one; rules name it
`model_` and its name. A model is a folder, a name on the model hub, or `module:attribute`. Four
frames of a clip are looked at, and a score is their mean. Questions go to the model that captions
(`captioner.engines.vlm`), with the captions.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from captioner.files import first_line, hash_files
from captioner.frames import FrameBatch
from captioner.handover import Prepared, pack
from captioner.hub import HubError, folder_of
from captioner.policies import ModelVideo
from curation.measure.columns import Scale

K = TypeVar("K")
Frames = NDArray[np.uint8]

FRAMES = 4
"""Frames of a clip that are looked at: own choice; a shot is of one place and one style."""

SHORT_SIDE = 448
"""Pixels to which larger frames are scaled: the largest of the models named here take 384."""

CLIPS = 16
"""Clips that go through the models together at most."""

EMBEDDING = "embedding"
"""The name under which a model's embedding is kept, for `dedupe: {embedding: model}`."""

MODELS = "models"
"""What this stage is called: the section of the preset, and the extra with its packages."""

_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""Files of a checkpoint: no pickles."""

_PACKAGES = ("torch", "torchvision", "transformers")


class ScorerError(ValueError):
    """A model that cannot score; the message says what to do."""


Text = Annotated[str, Field(min_length=1, max_length=1000)]


class Scorer(BaseModel):
    """What one name of the section `models` stands for, by the options that it has.

    `question`: the share of yes (0 to 1) in the answer of the model that captions.
    `label`: its probability by an image classifier of transformers.
    `text`: the probability of the first text, beside the others, by CLIP or SigLIP.
    `head`: a safetensors file of linear layers on a normalised embedding, as aesthetic predictors
    on CLIP and SigLIP are.
    None of them: `module:attribute` of a class or function that is called without arguments and
    then with (N, H, W, 3) uint8 RGB frames, for one number; or, as `embedding`, the embedding of
    CLIP, SigLIP, DINOv2 or any model of transformers that pools its picture.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Text | None = None
    head: Text | None = None
    text: Annotated[list[Text], Field(min_length=2, max_length=100)] | None = None
    label: Text | None = None
    question: Text | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        given = [name for name in ("head", "text", "label", "question") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are two scores: give each a name")
        if self.question and self.model:
            raise ValueError("a question goes to the model that captions: leave `model` out")
        if not self.question and not self.model:
            raise ValueError("name a `model`, or ask a `question`")
        if self.is_own and given:
            raise ValueError(f"{self.model} is code of one's own, which takes no {given[0]}")
        return self

    @property
    def is_own(self) -> bool:
        """Whether it is `module:attribute`."""
        return self.model is not None and ":" in self.model

    @property
    def scale(self) -> Scale:
        """Of its numbers: a probability, or what the model gives."""
        return Scale("", 0, 1) if self.question or self.label or self.text else Scale()

    def check(self, name: str) -> None:
        """Raises ValueError where the name does not fit what it stands for."""
        if not name.isidentifier() or name == "scores":
            raise ValueError(f"{name!r} cannot be a name: letters, digits and _, not `scores`")
        is_embedding = not (self.is_own or self.head or self.text or self.label or self.question)
        if is_embedding != (name == EMBEDDING):
            raise ValueError(
                "an embedding has neither head, text, label nor question, as code of one's own"
                if name == EMBEDDING
                else f"say what {name} is: its head, text or label; {EMBEDDING} has none of them"
            )


@dataclass(frozen=True)
class ScoreResult:
    """A clip's scores by name, and its embedding (D,) of length 1 where one is asked for."""

    status: Literal["ok", "error"]
    scores: Mapping[str, float] = field(default_factory=dict)
    embedding: tuple[float, ...] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Scoring:
    """The models of a preset, as curation.engine_process runs them. `known` is their identity where
    it was taken elsewhere."""

    scorers: tuple[tuple[str, Scorer], ...]
    known: tuple[tuple[str, str], ...] = ()
    name: str = field(default=MODELS, init=False)

    def prepare(self, batch: FrameBatch, clip_id: str = "") -> Prepared:
        """The frames that are looked at, packed."""
        pictures = batch.uniform(FRAMES)
        frames = np.stack([_small(picture.rgb) for picture in pictures])
        times = tuple(picture.time for picture in pictures)
        count = len(pictures)
        video = ModelVideo(frames, times, batch.fps, count, tuple(range(count)))
        return Prepared((pack(video),), clip_id=clip_id)

    def identity(self) -> dict[str, str]:
        """What the scores depend on: what is asked, and the files of the models. Raises ScorerError
        where one is not there."""
        return dict(self.known) or {
            name: one.model_dump_json() + _files(one) for name, one in self.scorers
        }

    def knowing(self, identity: Mapping[str, str]) -> Scoring:
        """With the identity that was told elsewhere."""
        return replace(self, known=tuple(sorted(identity.items())))

    # --- in the process of the models -------------------------------------------------------------

    def build(self) -> Models:
        """The models, loaded. Raises ScorerError."""
        return Models(self.scorers)

    def identity_of(self, models: Models) -> dict[str, str]:
        """As `identity`."""
        return self.identity()

    def warm_up(self, models: Models) -> None:
        """Score grey pictures. Raises ScorerError where a model cannot."""
        (result,) = models.score([np.full((1, 64, 64, 3), 128, np.uint8)])
        if result.status == "error":
            raise ScorerError(result.error or "no reason given")

    def answers(
        self, models: Models, clips: Iterable[tuple[K, Prepared]]
    ) -> Iterator[tuple[K, ScoreResult]]:
        """The scores of each clip, as many at a time as are ready."""
        ready = iter(clips)
        while batch := list(islice(ready, CLIPS)):
            frames = [_frames(clip) for _, clip in batch]
            yield from zip((key for key, _ in batch), models.score(frames))

    def failed(self, reason: str) -> ScoreResult:
        """The result of a clip that the process did not survive."""
        return ScoreResult("error", error=reason)


def _frames(clip: Prepared) -> Frames:
    (video,) = clip.views
    if not isinstance(video, ModelVideo):
        raise TypeError(f"{video!r} is not unpacked")
    return video.frames


def _small(rgb: Frames) -> Frames:
    height, width = rgb.shape[:2]
    factor = SHORT_SIDE / min(height, width)
    if factor >= 1:
        return rgb
    size = (round(width * factor), round(height * factor))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _files(scorer: Scorer) -> str:
    """The content of a scorer's files, or the revision of a repository on the hub."""
    if scorer.is_own or scorer.model is None:
        return ""
    folder = _folder(scorer.model)
    # The hub's cache has a folder for each commit.
    made_of = folder.name if folder != Path(scorer.model) else _hash(folder.rglob("*.safetensors"))
    return f"{made_of} {_hash([_head(scorer.head)])}" if scorer.head else made_of


def _hash(paths: Iterable[Path]) -> str:
    return hash_files((path.parent, path) for path in sorted(paths))


def _folder(model: str) -> Path:
    try:
        return folder_of(model, _FILES)
    except HubError as error:
        raise ScorerError(str(error)) from None
    except ImportError:
        raise ScorerError(f"{model} is fetched by huggingface_hub: {_INSTALL}") from None


def _head(head: str) -> Path:
    if not Path(head).is_file():
        raise ScorerError(f"there is no head {head}: give a safetensors file of linear layers")
    return Path(head)


_INSTALL = "pip install 'skycaptioner[models]'"


# --- the models -----------------------------------------------------------------------------------


class Models:
    """The models behind the names, each loaded once. Raises ScorerError."""

    def __init__(self, scorers: Sequence[tuple[str, Scorer]]) -> None:
        absent = [name for name in _PACKAGES if find_spec(name) is None]
        if absent and not all(scorer.is_own for _, scorer in scorers):
            raise ScorerError(f"no {', '.join(absent)} here: {_INSTALL}")
        encoders: dict[str, _Encoder] = {}
        self._scores: dict[str, Callable[[Sequence[Frames]], list[Any]]] = {}
        for name, scorer in scorers:
            if scorer.question or scorer.model is None:
                continue
            if scorer.is_own:
                self._scores[name] = _own(scorer.model)
            elif scorer.label:
                self._scores[name] = _Classifier(scorer.model, scorer.label)
            else:
                if scorer.model not in encoders:
                    encoders[scorer.model] = _Encoder(scorer.model)
                self._scores[name] = _of_encoder(encoders[scorer.model], scorer)
        self._encoders = tuple(encoders.values())

    def score(self, clips: Sequence[Frames]) -> list[ScoreResult]:
        """A result for each clip of (n, H, W, 3) uint8 RGB frames, n at most `FRAMES`."""
        for encoder in self._encoders:
            encoder.look(clips)
        found = {name: scores(clips) for name, scores in self._scores.items()}
        return [_result({name: each[i] for name, each in found.items()}) for i in range(len(clips))]


def _result(found: dict[str, Any]) -> ScoreResult:
    embedding = found.pop(EMBEDDING, None)
    scores = {name: float(value) for name, value in found.items()}
    vector = None if embedding is None else tuple(embedding.tolist())
    for name, values in {**{n: (v,) for n, v in scores.items()}, EMBEDDING: vector or ()}.items():
        if not all(map(math.isfinite, values)):
            return ScoreResult("error", error=f"{name} is no number for this clip")
    return ScoreResult("ok", scores, vector)


def _own(name: str) -> Callable[[Sequence[Frames]], list[Any]]:
    module, _, attribute = name.partition(":")
    try:
        score = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise ScorerError(f"{name} cannot be imported: {error}") from None
    return lambda clips: [score(frames) for frames in clips]


class _Network:
    """A model of transformers and its image processor, on a GPU where there is one."""

    def __init__(self, auto: Any, name: str) -> None:
        import torch
        from transformers import AutoImageProcessor
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()
        self.name, self.folder = name, _folder(name)
        on_gpu = torch.cuda.is_available()
        # Half the memory and twice the speed of a GPU; a CPU is slower with it.
        dtype = torch.float16 if on_gpu else torch.float32
        # A CPU gains nothing by larger batches.
        self._clips_at_once = CLIPS if on_gpu else 1
        try:
            self.model, info = auto.from_pretrained(
                str(self.folder), dtype=dtype, use_safetensors=True, output_loading_info=True
            )
            self._processor = AutoImageProcessor.from_pretrained(str(self.folder))
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ScorerError(
                f"{name} cannot be used ({first_line(error)}): give a model of pictures in the "
                "layout of transformers, with safetensors"
            ) from None
        if lacking := sorted(info["missing_keys"]):
            raise ScorerError(f"{name} lacks {len(lacking)} weights, such as {lacking[0]}")
        self.model.to("cuda" if on_gpu else "cpu").eval()

    def see(self, clips: Sequence[Frames], by: Callable[..., Any]) -> list[Any]:
        """(n, D) float32 for each clip of n frames: what `by` makes of their pixels.

        Batches are filled up to one size: libraries compute another size in another order, and a
        clip's numbers would depend on what happens to be beside it.
        """
        import torch

        seen: list[Any] = []
        for start in range(0, len(clips), self._clips_at_once):
            batch = list(clips[start : start + self._clips_at_once])
            filled = batch + batch[-1:] * (self._clips_at_once - len(batch))
            frames = [clip[min(i, len(clip) - 1)] for clip in filled for i in range(FRAMES)]
            made = self._processor(
                images=frames, return_tensors="pt", input_data_format="channels_last"
            )
            pixels = made["pixel_values"].to(self.model.device, self.model.dtype)
            with torch.inference_mode():
                values = by(pixel_values=pixels).float().unflatten(0, (-1, FRAMES))
            seen += [each[: len(clip)] for each, clip in zip(values, batch)]
        return seen


class _Encoder(_Network):
    """CLIP, SigLIP, DINOv2, or another model that pools a picture. `features` are those of the
    clips looked at last: for each (n, D), of length 1."""

    def __init__(self, name: str) -> None:
        from transformers import AutoModel

        super().__init__(AutoModel, name)
        self.features: list[Any] = []

    def look(self, clips: Sequence[Frames]) -> None:
        """Take the features of clips of at most `FRAMES` frames."""
        self.features = self.see(clips, self._pooled)

    def _pooled(self, **pixels: Any) -> Any:
        import torch

        made = getattr(self.model, "get_image_features", self.model)(**pixels)
        features = getattr(made, "pooler_output", made)
        if not isinstance(features, torch.Tensor):
            raise ScorerError(f"{self.name} gives no embedding of a picture")
        return torch.nn.functional.normalize(features.float(), dim=-1)

    def texts(self, texts: Sequence[str]) -> tuple[Any, float]:
        """(T, D) float32 features of texts, each of length 1, and the scale of their cosines."""
        import torch
        from transformers import AutoTokenizer

        if not hasattr(self.model, "get_text_features"):
            raise ScorerError(f"{self.name} reads no text: give CLIP or SigLIP, or a label")
        # SigLIP was trained on texts filled up to its length.
        fill: Any = "max_length" if "siglip" in self.model.config.model_type else True
        length = self.model.config.text_config.max_position_embeddings
        tokens = AutoTokenizer.from_pretrained(str(self.folder))(
            list(texts), padding=fill, truncation=True, max_length=length, return_tensors="pt"
        ).to(self.model.device)
        with torch.inference_mode():
            made = self.model.get_text_features(**tokens)
            features = getattr(made, "pooler_output", made).float()
            scale = float(self.model.logit_scale.float().exp())
        return torch.nn.functional.normalize(features, dim=-1), scale


def _of_encoder(encoder: _Encoder, scorer: Scorer) -> Callable[[Sequence[Frames]], list[Any]]:
    """What a scorer makes of the features that its encoder has taken."""
    import torch

    if scorer.head:
        layers = _layers(_head(scorer.head), encoder)
        return lambda _: [layers(one).mean() for one in encoder.features]
    if scorer.text:
        texts, scale = encoder.texts(scorer.text)
        return lambda _: [
            (scale * one @ texts.T).softmax(-1)[:, 0].mean() for one in encoder.features
        ]
    return lambda _: [
        torch.nn.functional.normalize(one.mean(0), dim=-1).cpu() for one in encoder.features
    ]


def _layers(path: Path, encoder: _Encoder) -> Any:
    """The linear layers of a file as one network. Raises ScorerError."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ScorerError(f"{path} is no safetensors file ({first_line(error)})") from None
    weights = (name.removesuffix(".weight") for name in found if name.endswith(".weight"))
    layers: list[Any] = []
    for name in sorted(weights, key=_natural):
        weight, bias = found[f"{name}.weight"].float(), found.get(f"{name}.bias")
        fits = weight.dim() == 2 and bias is not None and bias.shape == weight.shape[:1]
        if not fits or (layers and layers[-1].out_features != weight.shape[1]):
            raise ScorerError(f"{path} is no chain of linear layers: {name} does not fit")
        layer = torch.nn.Linear(*reversed(weight.shape))
        layer.load_state_dict({"weight": weight, "bias": bias.float()})
        layers.append(layer)
    if not layers or layers[-1].out_features != 1:
        raise ScorerError(f"{path} is no chain of linear layers that ends in one number")
    encoder.look([np.zeros((1, 64, 64, 3), np.uint8)])
    if (size := encoder.features[0].shape[1]) != layers[0].in_features:
        raise ScorerError(
            f"{path} takes {layers[0].in_features} numbers, and {encoder.name} gives {size}: it "
            "is the head of another model"
        )
    return torch.nn.Sequential(*layers).requires_grad_(False).to(encoder.model.device).eval()


def _natural(name: str) -> list[tuple[int, str]]:
    """`layers.10` after `layers.2`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


class _Classifier(_Network):
    """An image classifier and one of its labels."""

    def __init__(self, name: str, label: str) -> None:
        from transformers import AutoModelForImageClassification

        super().__init__(AutoModelForImageClassification, name)
        labels = {str(one).lower(): int(i) for i, one in self.model.config.id2label.items()}
        if label.lower() not in labels:
            raise ScorerError(f"{name} has no label {label!r}; it has {', '.join(labels)}"[:300])
        self._place = labels[label.lower()]

    def __call__(self, clips: Sequence[Frames]) -> list[Any]:
        return [one.mean() for one in self.see(clips, self._likely)]

    def _likely(self, **pixels: Any) -> Any:
        logits = self.model(**pixels).logits.float()
        several = self.model.config.problem_type == "multi_label_classification"
        return (logits.sigmoid() if several else logits.softmax(-1))[:, self._place]
