"""diffusers' SkyReels-V2 pipelines as a video model."""

from __future__ import annotations

import gc
import resource
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, get_args

import numpy as np

from generation.checkpoint import IMAGE, Checkpoint, ModelError
from generation.config import GenerationConfig
from generation.frames import GenerationOptionError, is_long
from generation.model import Condition, Generated, GenerationError, Prompt, Rgb

Offload = Literal["none", "model", "sequential"]
"""What waits in main memory: nothing, the parts that are not at work, or all layers but one."""


@dataclass
class PipelineModel:
    """A pipeline that is loaded; `load_pipeline` makes one."""

    pipeline: Any
    config: GenerationConfig
    name: str

    def generate(self, prompt: Prompt, condition: Condition | None) -> Generated:
        """The video of a prompt. Raises GenerationError."""
        import torch

        text, cut = self._read(prompt.text)
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        # The noise on given frames (addnoise) is drawn from the global generator.
        torch.manual_seed(prompt.seed)
        generator = torch.Generator("cpu").manual_seed(prompt.seed)
        started, failure = time.monotonic(), None
        try:
            video = self.pipeline(prompt=text, generator=generator, **self._arguments(condition))
            pictures = np.asarray(video.frames[0])
        except (torch.OutOfMemoryError, MemoryError) as error:
            failure = _out_of_memory(error)
        except RuntimeError as error:
            if "allocate memory" not in str(error):  # as PyTorch says it of main memory
                raise
            failure = _out_of_memory(error)
        # Not above: until the error is dropped, its traceback holds what the pipeline held.
        if failure is not None:
            self._free()
            raise GenerationError(failure)
        seconds = time.monotonic() - started
        peak = torch.cuda.max_memory_allocated() if on_gpu else _resident_peak()
        return Generated(
            _eight_bit(pictures), self.config.fps, seconds, peak, text if cut else None
        )

    def _read(self, text: str) -> tuple[str, bool]:
        """What the text encoder reads of a prompt, and whether it is cut.

        Raises GenerationError where it is too long and not to be cut.
        """
        from diffusers.pipelines.skyreels_v2.pipeline_skyreels_v2 import prompt_clean

        tokenizer, most = self.pipeline.tokenizer, self.config.max_tokens
        tokens = tokenizer(prompt_clean(text)).input_ids
        if len(tokens) <= most:
            return text, False
        if not self.config.truncate:
            raise GenerationError(
                f"the prompt has {len(tokens)} tokens, the text encoder takes {most}: write it "
                "shorter, or let it be cut (--truncate)"
            )
        kept = tokenizer(prompt_clean(text), truncation=True, max_length=most).input_ids
        return tokenizer.decode(kept, skip_special_tokens=True), True

    def _arguments(self, condition: Condition | None) -> dict[str, Any]:
        config, forcing = self.config, self.config.of_forcing
        arguments: dict[str, Any] = {
            "negative_prompt": config.negative_prompt,
            "height": config.height,
            "width": config.width,
            "num_frames": config.frames,
            "num_inference_steps": config.steps,
            "guidance_scale": config.guidance,
            "max_sequence_length": config.max_tokens,
            "output_type": "np",
        }
        if config.task == "df":
            arguments |= {
                "base_num_frames": forcing.base_frames,
                "overlap_history": (forcing.overlap if is_long(config.frames, forcing) else None),
                "ar_step": forcing.ar_step,
                "causal_block_size": forcing.causal_block,
                "addnoise_condition": forcing.addnoise,
                "fps": config.fps,
            }
        if config.first_frame:
            if condition is None:
                raise GenerationError("there is no first frame to begin with")
            arguments["image"] = _picture(condition.first)
            if config.last_frame and condition.last is not None:
                arguments["last_image"] = _picture(condition.last)
        return arguments

    def _free(self) -> None:
        """Give back what a failed prompt held, so that the next one finds room."""
        import torch

        self.pipeline.maybe_free_model_hooks()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def load_pipeline(
    checkpoint: Checkpoint, config: GenerationConfig, offload: Offload = "none"
) -> PipelineModel:
    """Load a checkpoint onto the GPU, or into main memory where there is none.

    Raises GenerationOptionError where the libraries are missing, there is no GPU to offload from,
    or the checkpoint cannot be loaded.
    """
    if offload not in get_args(Offload):
        raise GenerationOptionError(f"offload {offload!r} is none of none, model, sequential")
    # Without ftfy the pipelines fail at their first prompt.
    if lacking := [name for name in ("torch", "diffusers", "ftfy") if find_spec(name) is None]:
        raise GenerationOptionError(
            f"{', '.join(lacking)} missing: pip install 'skycaptioner[generate]'"
        )
    import diffusers
    import torch

    on_gpu = torch.cuda.is_available()
    if offload != "none" and not on_gpu:
        raise GenerationOptionError(f"--offload {offload} needs a GPU: leave it out")
    _quieten()
    where = {"local_files_only": True, "use_safetensors": True}
    folder = str(checkpoint.folder)
    try:
        # In less than 32 bits the decoded pictures suffer (the examples of diffusers' pipelines).
        precise: dict[str, Any] = {
            "vae": diffusers.AutoencoderKLWan.from_pretrained(
                folder, subfolder="vae", dtype=torch.float32, **where
            )
        }
        if checkpoint.pipeline == IMAGE:
            from transformers import CLIPVisionModelWithProjection

            precise["image_encoder"] = CLIPVisionModelWithProjection.from_pretrained(
                folder, subfolder="image_encoder", dtype=torch.float32, **where
            )
        kind = getattr(diffusers, checkpoint.pipeline)
        pipeline = kind.from_pretrained(
            folder, dtype=getattr(torch, config.dtype), **precise, **where
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        line = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{folder} cannot be loaded ({type(error).__name__}: {line}): copy it again, all of it"
        ) from None
    pipeline.scheduler = diffusers.UniPCMultistepScheduler.from_config(
        pipeline.scheduler.config, flow_shift=config.shift
    )
    pipeline.set_progress_bar_config(disable=True)
    if config.tiling:
        pipeline.vae.enable_tiling()
    if offload == "model":
        pipeline.enable_model_cpu_offload()
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload()
    elif on_gpu:
        pipeline.to("cuda")
    return PipelineModel(pipeline, config, checkpoint.name)


def _quieten() -> None:
    """Keep the libraries' progress bars and advice from between our lines."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()


def _picture(rgb: Rgb) -> Any:
    from PIL import Image

    return Image.fromarray(rgb)


def _eight_bit(pictures: Any) -> Rgb:
    """(N, H, W, 3) of 0 to 1 as 8 bits. Raises GenerationError where some are no numbers."""
    wrong = sum(not np.isfinite(picture).all() for picture in pictures)
    if wrong:
        raise GenerationError(
            f"{wrong} of {len(pictures)} frames are no numbers (NaN): generate in another --dtype, "
            "or look into the checkpoint"
        )
    return np.stack([np.asarray(np.rint(picture * 255), np.uint8) for picture in pictures])


def _out_of_memory(error: BaseException) -> str:
    line = " ".join(str(error).split()) or type(error).__name__
    return f"out of memory ({line}): --offload model, --tiling, or fewer frames or pixels take less"


def _resident_peak() -> int:
    """The most memory that this process has had, in bytes: Linux counts KiB, macOS bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
