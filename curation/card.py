"""The dataset card: README.md with counts, licences, configuration and plots, made from the
manifest. Its first lines tell `datasets` where each split is."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from curation.ledger import replacing

if TYPE_CHECKING:
    from curation.dataset import Manifest

_PLOTS = {
    "concepts": "What the clips show",
    "lengths": "Lengths",
    "rates": "Frames a second",
    "sizes": "Sizes, pixels",
}

_MOST = 12
"""Bars of a plot; what is rarer is one bar."""


def write_card(folder: Path, manifest: Manifest) -> None:
    """Write README.md and its plots, card/*.svg. Raises OSError."""
    statistics = manifest.statistics.model_dump()
    for name, title in _PLOTS.items():
        with replacing(folder / "card" / f"{name}.svg") as part:
            part.write_text(bars(title, statistics[name]), encoding="utf-8")
    with replacing(folder / "README.md") as part:
        part.write_text(card(folder.resolve().name, manifest), encoding="utf-8")


def card(name: str, manifest: Manifest) -> str:
    """The text of the card."""
    known = manifest.statistics
    filled = [split for split in manifest.splits if any(s.split == split for s in manifest.shards)]
    front = {
        "pretty_name": name,
        "task_categories": ["text-to-video", "image-to-video"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": s, "path": f"data/{s}-*.parquet"} for s in filled],
            }
        ],
    }
    splits = "\n".join(
        f"| {split} | {sum(s.rows for s in shards):,} | {len(shards):,} "
        f"| {sum(s.statistics.seconds for s in shards) / 3600:.3f} "
        f"| {sum(s.bytes for s in shards) / 1e6:,.1f} |"
        for split in manifest.splits
        for shards in [[s for s in manifest.shards if s.split == split]]
    )
    plots = "\n".join(f"![{title}](card/{plot}.svg)\n" for plot, title in _PLOTS.items())
    return f"""---
{yaml.safe_dump(front, sort_keys=False)}---

# {_plain(name)}

{known.clips:,} clips, {known.seconds / 3600:.3f} hours, {known.frames:,} frames; video
{_LAYOUTS[manifest.layout]}. Made with skycaptioner, schema version {manifest.schema_version},
revision {manifest.revision}.

| split | clips | shards | hours | MB |
|---|---|---|---|---|
{splits}

A source is in one split with all its clips (seed {manifest.seed}, shares {_shares(manifest)}).

## Licences

{_table("licence of the source", known.licences)}
## Captions

{_table("status", known.caption_statuses)}
{_table("engine", known.caption_engines)}
## Configuration

{_table("config_hash", known.configurations)}
## Plots

{plots}
## Reading it

```python
from curation import ClipDataset

clips = ClipDataset("PATH", split="{filled[0] if filled else "train"}", task="t2v")
```

`datasets.load_dataset("PATH")`, pandas and DuckDB read `data/*.parquet` as they are; each
column's meaning is in the Parquet schema.
"""


_LAYOUTS = {
    "embedded": "is in the rows (`video.bytes`, MP4)",
    "files": "is in `videos/` (`video.path`)",
    "virtual": "stays in the sources (`source`, `start_pts`, `end_pts`, `crop`)",
}


def _shares(manifest: Manifest) -> str:
    return ", ".join(f"{name} {share:g}" for name, share in manifest.splits.items())


def _table(title: str, counts: Mapping[str, int]) -> str:
    lines = "".join(f"| {_plain(name)} | {count:,} |\n" for name, count in counts.items())
    return f"| {title} | clips |\n|---|---|\n{lines}"


def _plain(text: str) -> str:
    """Text that a user's fact or a folder's name brought in, without meaning in Markdown."""
    return escape(" ".join(text.split())).replace("|", "\\|").replace("`", "'")


def bars(title: str, counts: Mapping[str, int]) -> str:
    """A bar chart as SVG, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda one: -one[1])
    shown = ordered[:_MOST]
    if rest := sum(count for _, count in ordered[_MOST:]):
        shown.append(("others", rest))
    most = max((count for _, count in shown), default=1)
    rows = "".join(
        f'<text x="190" y="{42 + 22 * i}" text-anchor="end">{escape(name[:26])}</text>'
        f'<rect x="200" y="{30 + 22 * i}" width="{max(1, 300 * count / most):.0f}" height="15"/>'
        f'<text x="{206 + 300 * count / most:.0f}" y="{42 + 22 * i}">{count:,}</text>'
        for i, (name, count) in enumerate(shown)
    )
    height = 36 + 22 * len(shown)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="580" height="{height}" '
        f'font-family="sans-serif" font-size="12"><rect width="580" height="{height}" '
        f'fill="#fff"/><g fill="#4878a8"><text x="10" y="18" font-size="14" fill="#222">'
        f"{escape(title)}</text>{rows}</g></svg>\n"
    )
