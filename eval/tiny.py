"""A tiny Qwen2.5-VL of random weights, for trying out engines where the real one does not fit.

The architecture, the processor and the tokenizer are the real ones; only the sizes are small. The
tokenizer is Qwen's, from a Python package as the other weights (`captioner.weights`); with
`--vocab 2048` its first 2,048 tokens alone, with which vLLM starts in a tenth of the time.

    python -m eval.tiny OUT [--vocab 2048] [--hidden 64] [--to-train]
"""

from __future__ import annotations

import base64
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from captioner import weights
from captioner.weights import Weight

TOKENIZER = Weight(
    "qwen.tiktoken",
    "dashscope",
    "2.0.2",
    "dashscope/resources/qwen.tiktoken",
    2_561_218,
    "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186",
    "Apache-2.0",
    "Qwen's tokens by rank",
)

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
"""Qwen2.5-VL's special tokens, in the order of their ids (its tokenizer_config.json)."""

END = "<|im_end|>"
"""Ends an answer."""

TEMPLATE = """\
{%- for message in messages -%}
{%- if loop.first and message.role != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'video' -%}
{{ '<|vision_start|><|video_pad|><|vision_end|>' }}
{%- elif part.type in ('image', 'image_url') -%}
{{ '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- else -%}
{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""
"""Says what Qwen2.5-VL's chat template says of such messages."""

PATCH = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
PIXELS = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 16384}
"""Qwen2.5-VL's preprocessor_config.json."""


def build(
    out: Path, vocab: int | None = None, hidden: int = 64, seed: int = 0, to_train: bool = False
) -> Path:
    """Write the model's folder: `vocab` tokens (None: all 151,643), `hidden` numbers a token.

    `hidden` is a multiple of 32. Weights have the real model's deviation, 0.02, which in layers as
    narrow as these lets next to nothing through: `to_train` fits it to each layer. The same
    arguments give the same weights. Raises
    captioner.weights.WeightError where the tokenizer cannot be had.
    """
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    tokenizer = _tokenizer(_ranks(vocab))
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(_config(tokenizer, hidden))
    if to_train:
        _fit_to_width(model)
    ends = [tokenizer.convert_tokens_to_ids(name) for name in ("<|im_end|>", "<|endoftext|>")]
    model.generation_config.eos_token_id = ends
    model.generation_config.pad_token_id = ends[1]
    model.save_pretrained(out)
    _processor(tokenizer).save_pretrained(out)
    return out


def _fit_to_width(model: Any) -> None:
    """Weights of deviation 1 / sqrt(inputs), which keep the size of what goes through (LeCun et
    al., 1998, Efficient BackProp, section 4.6); embeddings stay."""
    import torch

    embeddings = model.get_input_embeddings().weight
    for weight in model.parameters():
        if weight.ndim > 1 and weight is not embeddings:
            torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)


def _ranks(vocab: int | None) -> dict[bytes, int]:
    path = weights.cached(TOKENIZER)
    if not path.is_file():
        weights.fetch([TOKENIZER], quiet=True)
    lines = path.read_bytes().splitlines()[:vocab]
    return {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}


def _tokenizer(ranks: dict[bytes, int]) -> Any:
    from transformers import AddedToken, Qwen2Tokenizer

    letters = _letters()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = [
        tuple("".join(letters[byte] for byte in part) for part in _halves(token, ranks))
        for token in ranks
        if len(token) > 1
    ]
    tokenizer = Qwen2Tokenizer(
        vocab={spelled[token]: rank for token, rank in ranks.items()},
        merges=merges,
        unk_token=None,
        eos_token=SPECIAL[0],
        pad_token=SPECIAL[0],
        model_max_length=131_072,
    )
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    tokenizer.eos_token = END
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _letters() -> dict[int, str]:
    """A visible character for each byte, as GPT-2's byte-level tokenizers write them."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def _halves(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens of lower rank that were merged into this one."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in pairwise(parts)]
        at = pairs.index(min(pairs))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def _config(tokenizer: Any, hidden: int) -> Any:
    from transformers import Qwen2_5_VLConfig

    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    heads = hidden // 32
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": _rounded_up(len(tokenizer), 128),
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": 2,
            "num_attention_heads": heads,
            "num_key_value_heads": max(1, heads // 2),
            "max_position_embeddings": 32_768,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [4, 6, 6],
            },
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "tie_word_embeddings": False,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": hidden,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
            "hidden_act": "silu",
            "in_channels": 3,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
        dtype="float32",
    )


def _rounded_up(count: int, step: int) -> int:
    """The count, rounded up to a multiple of the step."""
    return -(-count // step) * step


def _processor(tokenizer: Any) -> Any:
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=PIXELS, **PATCH),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=PIXELS, **PATCH),
        chat_template=TEMPLATE,
    )


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write the model to.")],
    vocab: Annotated[
        int | None, typer.Option(min=256, help="Tokens of the vocabulary; all by default.")
    ] = None,
    hidden: Annotated[int, typer.Option(min=64, help="Numbers a token, a multiple of 64.")] = 64,
    to_train: Annotated[
        bool, typer.Option("--to-train", help="Weights that can learn from a random start.")
    ] = False,
) -> None:
    """Build the tiny model."""
    print(f"tiny Qwen2.5-VL in {build(out, vocab, hidden, to_train=to_train)}")


if __name__ == "__main__":
    typer.run(main)
