"""How many frames a SkyReels-V2 model can generate, and by which windows. Pure arithmetic.

Sources: SkyworkAI/SkyReels-V2 at abed76f, README.md (note on asynchronous inference) and
skyreels_v2_infer/pipelines/diffusion_forcing_pipeline.py; the pipelines of diffusers 0.42.1. They
round or cut silently where a rule is broken, or leave frames as noise; here it is an error.
"""

from __future__ import annotations

from dataclasses import dataclass

TEMPORAL = 4
"""Frames a latent frame stands for, after the first: Wan 2.1's VAE (`vae_stride` of the reference's
text2video_pipeline.py)."""

SPATIAL = 16
"""Pixels a token is wide and high: 8 by the VAE, 2 by the patches (the pipelines' check_inputs)."""

MOST_NOISE = 60
"""`addnoise_condition` above which the reference warns of inconsistent videos
(generate_video_df.py); its README recommends 20, and not more than 50."""


class GenerationOptionError(ValueError):
    """An option that cannot be; the message says what to do."""


@dataclass(frozen=True)
class Forcing:
    """How a diffusion-forcing model makes a video; defaults are the README's recommended values.

    A video of more than `base_frames` frames is made by windows of that length, each of which
    begins with the last `overlap` frames of the one before. With `ar_step` above 0 blocks of
    `causal_block` latent frames are denoised one after the other, each `ar_step` steps behind the
    one before; None leaves the block size to the model. `addnoise` thousandths of noise are mixed
    into frames that are given.
    """

    base_frames: int = 97
    overlap: int = 17
    ar_step: int = 0
    causal_block: int | None = None
    addnoise: float = 20


@dataclass(frozen=True)
class Window:
    """Latent frames that go through the model at once; the first `given` of them are known."""

    latents: int
    given: int


def latent_frames(frames: int) -> int:
    """Latent frames that stand for `frames` frames."""
    return (frames - 1) // TEMPORAL + 1


def is_long(frames: int, forcing: Forcing) -> bool:
    """Whether a video takes more than one window."""
    return latent_frames(frames) > latent_frames(forcing.base_frames)


def windows(frames: int, forcing: Forcing) -> list[Window]:
    """The windows of a video of `frames` frames, which the rules allow."""
    total, base = latent_frames(frames), latent_frames(forcing.base_frames)
    if total <= base:
        return [Window(total, 0)]
    overlap = latent_frames(forcing.overlap)
    found = [Window(base, 0)]
    done = base
    while done < total:
        new = min(base - overlap, total - done)
        found.append(Window(overlap + new, overlap))
        done += new
    return found


def check_size(height: int, width: int) -> None:
    """Raises GenerationOptionError for pixels that make no whole tokens."""
    for name, side in (("height", height), ("width", width)):
        if side < SPATIAL or side % SPATIAL:
            near = max(SPATIAL, round(side / SPATIAL) * SPATIAL)
            raise GenerationOptionError(
                f"{name} {side} is no multiple of {SPATIAL}: ask for {near}"
            )


def check_count(name: str, frames: int, least: int = TEMPORAL + 1) -> None:
    """Raises GenerationOptionError for frames that make no whole latent frames, or no video."""
    if frames < least or frames % TEMPORAL != 1:
        near = max(least, round((frames - 1) / TEMPORAL) * TEMPORAL + 1)
        raise GenerationOptionError(
            f"{name} {frames} is not 1 more than a multiple of {TEMPORAL}: ask for {near}"
        )


def check_forcing(frames: int, forcing: Forcing, first: bool, last: bool) -> None:
    """Raises GenerationOptionError where windows, blocks and given frames do not fit together.

    `first` and `last` say which frames of the video are given as pictures.
    """
    if is_long(frames, forcing):
        check_count("base frames", forcing.base_frames)
        check_count("overlap", forcing.overlap, least=1)
        if forcing.overlap >= forcing.base_frames:
            raise GenerationOptionError(
                f"an overlap of {forcing.overlap} frames leaves nothing new in windows of "
                f"{forcing.base_frames}: ask for a shorter overlap or longer windows"
            )
    if forcing.ar_step < 0:
        raise GenerationOptionError(f"ar step {forcing.ar_step} is below 0: 0 is synchronous")
    if not 0 <= forcing.addnoise <= MOST_NOISE:
        raise GenerationOptionError(
            f"addnoise {forcing.addnoise:g} is not within 0 to {MOST_NOISE}: 20 is recommended"
        )
    _check_blocks(frames, forcing, first or last)
    if last and is_long(frames, forcing):
        raise GenerationOptionError(
            f"a last frame can be given to a video of one window: ask for at most "
            f"{forcing.base_frames} frames, or leave it out"
        )


def _check_blocks(frames: int, forcing: Forcing, given: bool) -> None:
    block = 1 if forcing.causal_block is None else forcing.causal_block
    if block < 1:
        raise GenerationOptionError(f"causal block {block} is below 1: 5 is recommended")
    if block > 1 and given:
        raise GenerationOptionError(
            f"a given frame is one latent frame, and in causal blocks of {block} the model takes "
            "it for noise: leave the causal block out"
        )
    counts = {"frames": frames}
    if is_long(frames, forcing):
        counts |= {"base frames": forcing.base_frames, "overlap": forcing.overlap}
    for name, count in counts.items():
        if latent_frames(count) % block:
            near = max(1, round(latent_frames(count) / block)) * block
            raise GenerationOptionError(
                f"{name} {count} are {latent_frames(count)} latent frames, no multiple of the "
                f"causal block {block}: ask for {(near - 1) * TEMPORAL + 1}"
            )
