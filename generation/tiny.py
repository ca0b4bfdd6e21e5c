"""SkyReels-V2 pipelines of random weights, for trying out the loop where the real ones do not fit.

Classes, layout and file formats are the real ones; only the sizes are small. What they generate is
noise. The tokenizer is of T5's kind (unigrams), with words of the captioner's own instructions.
With `--size 1.3b` transformer and VAE are as large as the published 1.3B model's, to measure time
and memory; the text encoder has its width but not its depth.

    python -m generation.tiny OUT --task df [--size 1.3b]
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import typer

from captioner.fusion_prompts import FUSION_I2V, FUSION_T2V
from captioner.prompts import STRUCTURED
from generation.config import Task

VOCABULARY = 512
"""Tokens at most."""

SPACE = "\u2581"
"""Stands for a space in T5's tokens."""

RARE = 10.0
"""A letter's negative log-likelihood: any word that is a token is likelier than its letters."""

VISION, LATENTS = 32, 16
"""Numbers a token of the picture encoder; channels of the VAE, which are the real one's: its
published means and deviations are for as many."""

SizeName = Literal["tiny", "1.3b"]


@dataclass(frozen=True)
class Sizes:
    """`heads` of `head` numbers, `ffn` wide, `layers` deep, `text` numbers a token of the prompt;
    the VAE is `base` wide, times `multiples` as it goes down, with `blocks` at each step."""

    heads: int
    head: int
    ffn: int
    layers: int
    text: int
    base: int
    multiples: tuple[int, ...]
    blocks: int


TASKS: list[str] = list(get_args(Task))

SIZES: dict[SizeName, Sizes] = {
    "tiny": Sizes(2, 12, 32, 2, 32, 3, (1, 1, 1, 1), 1),
    # Wan 2.1's 1.3B and its VAE, which SkyReels-V2 keeps (wan/configs/wan_t2v_1_3B.py of Wan-Video/
    # Wan2.1; AutoencoderKLWan's defaults).
    "1.3b": Sizes(12, 128, 8960, 30, 4096, 96, (1, 2, 4, 4), 2),
}


def build(out: Path, task: Task = "t2v", seed: int = 0, size: SizeName = "tiny") -> Path:
    """Write a checkpoint for a task to `out`. The same arguments give the same weights."""
    import torch
    from diffusers import (
        AutoencoderKLWan,
        SkyReelsV2DiffusionForcingPipeline,
        SkyReelsV2ImageToVideoPipeline,
        SkyReelsV2Pipeline,
        SkyReelsV2Transformer3DModel,
        UniPCMultistepScheduler,
    )
    from transformers import UMT5Config, UMT5EncoderModel

    tokenizer, sizes = _tokenizer(), SIZES[size]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: dict[str, Any] = {
            "tokenizer": tokenizer,
            "text_encoder": UMT5EncoderModel(
                UMT5Config(
                    vocab_size=len(tokenizer),
                    d_model=sizes.text,
                    d_kv=8,
                    d_ff=64,
                    num_layers=2,
                    num_heads=4,
                )
            ).eval(),
            "vae": AutoencoderKLWan(
                base_dim=sizes.base,
                z_dim=LATENTS,
                dim_mult=list(sizes.multiples),
                num_res_blocks=sizes.blocks,
                temperal_downsample=[False, True, True],
            ),
            "scheduler": UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0
            ),
            "transformer": SkyReelsV2Transformer3DModel(**transformer(task, sizes)),
        }
        if task == "i2v":
            parts |= _picture_encoder()
    kinds = {
        "t2v": SkyReelsV2Pipeline,
        "i2v": SkyReelsV2ImageToVideoPipeline,
        "df": SkyReelsV2DiffusionForcingPipeline,
    }
    kinds[task](**parts).save_pretrained(out)
    return out


def transformer(task: Task, sizes: Sizes) -> dict[str, Any]:
    """What SkyReelsV2Transformer3DModel is made from; for image to video, the picture's latents
    and mask come in beside the noise."""
    seen = {
        "in_channels": LATENTS + 4 + LATENTS,
        "image_dim": VISION,
        "added_kv_proj_dim": sizes.heads * sizes.head,
    }
    return {
        "patch_size": (1, 2, 2),
        "num_attention_heads": sizes.heads,
        "attention_head_dim": sizes.head,
        "in_channels": LATENTS,
        "out_channels": LATENTS,
        "text_dim": sizes.text,
        "freq_dim": 256,
        "ffn_dim": sizes.ffn,
        "num_layers": sizes.layers,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 1024,
        "inject_sample_info": task == "df",
        **(seen if task == "i2v" else {}),
    }


def _picture_encoder() -> dict[str, Any]:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    config = CLIPVisionConfig(
        hidden_size=VISION,
        projection_dim=VISION,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=16,
    )
    return {
        "image_encoder": CLIPVisionModelWithProjection(config).eval(),
        "image_processor": CLIPImageProcessor(crop_size=32, size=32),
    }


def _tokenizer() -> Any:
    """A unigram tokenizer with T5's special tokens: frequent words, and what is left by letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pad, end, unknown = special = ["<pad>", "</s>", "<unk>"]
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    words = Counter(re.findall(r"[a-z]{2,}", f"{STRUCTURED} {FUSION_T2V} {FUSION_I2V}".lower()))
    frequent = sorted(words, key=lambda word: (-words[word], word))
    frequent = frequent[: VOCABULARY - len(special) - len(letters) - 1]
    pieces = [(token, 0.0) for token in special]
    pieces += [(f"{SPACE}{word}", math.log(words[word] / words.total())) for word in frequent]
    pieces += [(letter, -RARE) for letter in [SPACE, *letters]]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=special.index(unknown)))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, special.index(end))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, eos_token=end, unk_token=unknown
    )


def _main(
    out: Annotated[Path, typer.Argument(help="Folder to write; each task gets one in it.")],
    task: Annotated[list[str], typer.Option(help="t2v, i2v or df; all by default.")] = TASKS,
    seed: Annotated[int, typer.Option(help="Of the weights.")] = 0,
    size: Annotated[str, typer.Option(help="tiny, or 1.3b to measure.")] = "tiny",
) -> None:
    """Write SkyReels-V2 checkpoints of random weights."""
    if wrong := [one for one in task if one not in TASKS]:
        raise typer.BadParameter(f"{wrong[0]!r} is none of {', '.join(TASKS)}")
    if size not in SIZES:
        raise typer.BadParameter(f"{size!r} is none of {', '.join(SIZES)}")
    for one in task:
        folder = build(out / one, cast(Task, one), seed, size)
        written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        typer.echo(f"{folder}: {written / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(_main)
