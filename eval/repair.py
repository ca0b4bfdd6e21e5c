"""Broken model outputs, mended: `python -m eval.repair [--captions FILE]`.

Valid captions are broken in every way of `BREAKS`, each knowing which fields are still whole in the
broken text. Counted in the same run for `captioner.repair.parse`, json_repair and plain json.loads:
valid by the schema, whole fields kept, fields that say what the caption does not, rows a second of
CPU. `--fuzz N` parses N texts of random damage and checks that nothing is raised and that every
word comes from the text. `--write FILE` writes the broken outputs as lines of JSON.
"""

from __future__ import annotations

import ast
import csv
import json
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from captioner.loose_json import unescape
from captioner.repair import Parsed, parse
from captioner.schema import MAX_SUBJECTS, SHOT_FIELDS, ShotCaption, options

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Leaves = dict[str, str | bool]
"""Values by their paths, such as `subjects[0].TYPES.type`; empty ones are left out."""


@dataclass(frozen=True)
class Broken:
    """A broken output: how it was broken, whether the model ended it, and what is whole in it.

    `kept` are the fields that stand in the text from their first to their last character, `said`
    those of the caption that it was made from.
    """

    kind: str
    text: str
    finished: bool
    kept: Leaves
    said: Leaves


CAPTIONS: tuple[dict[str, Any], ...] = (
    {
        "subjects": [
            {
                "TYPES": {"type": "Human", "sub_type": "Man"},
                "appearance": "A grey beard, a yellow raincoat and rubber boots.",
                "action": "A man stands at the stern of a small boat and hauls in a net hand over "
                'hand. Twice he stops, reads the word "north" on a buoy and looks at the sky.',
                "expression": "He looks tired; his brows are drawn together.",
                "position": "Left of the centre, close to the camera.",
                "is_main_subject": True,
            },
            {
                "TYPES": {"type": "Vehicles", "sub_type": "Ship"},
                "appearance": "White hull with rust, a blue cabin.",
                "action": "",
                "expression": "",
                "position": "Fills the lower half of the frame.",
                "is_main_subject": False,
            },
        ],
        "shot_type": "medium_shot",
        "shot_angle": "eye_level",
        "shot_position": "side_view",
        "camera_motion": "use a handheld shot, the camera moves to the right",
        "environment": "Open sea with low waves, no land in sight.",
        "lighting": "Overcast morning light without shadows.",
    },
    {
        "subjects": [
            {
                "TYPES": {"type": "Animal", "sub_type": "Mammal"},
                "appearance": "A ginger cat's fur, white paws, a red collar with a bell.",
                "action": "A cat crouches on a window sill, its tail twitching. It leaps at a "
                "moth, misses, and lands on the carpet.",
                "expression": "Wide eyes, ears turned forward; it looks alert.",
                "position": "In the centre; at the end in the lower right corner.",
                "is_main_subject": True,
            }
        ],
        "shot_type": "full_shot",
        "shot_angle": "low_angle",
        "shot_position": "front_view",
        "camera_motion": "",
        "environment": "A living room: a window with curtains, a shelf, 3 plants, 21 °C outside.",
        "lighting": "Warm evening light from the left, long shadows.",
    },
    {
        "subjects": [],
        "shot_type": "long_shot",
        "shot_angle": "high_angle",
        "shot_position": "aerial_view",
        "camera_motion": "the camera moves forward",
        "environment": "Терраса над морем — 山の上の町, seen from far above; roofs, a church.",
        "lighting": "Bright noon, hard shadows.",
    },
    {
        "subjects": [
            {
                "TYPES": {"type": "Human", "sub_type": "Woman"},
                "appearance": "Short black hair, a green scarf, silver rings.",
                "action": "She turns a page, writes 'yes?' in the margin and closes the book.",
                "expression": "She smiles slightly.",
                "position": "On the right side of the frame.",
                "is_main_subject": True,
            },
            {
                "TYPES": {"type": "Human", "sub_type": "Man"},
                "appearance": "Glasses, a brown jacket [too large] and jeans.",
                "action": "",
                "expression": "",
                "position": "Behind her, out of focus.",
                "is_main_subject": False,
            },
            {
                "TYPES": {"type": "Plant", "sub_type": "Tree"},
                "appearance": "Bare branches: no leaves, a swing {blue}.",
                "action": "",
                "expression": "",
                "position": "In the background.",
                "is_main_subject": False,
            },
        ],
        "shot_type": "close_up",
        "shot_angle": "eye_level",
        "shot_position": "over_the_shoulder",
        "camera_motion": "use a tracking shot, the camera pans to the left",
        "environment": "A park bench in winter.",
        "lighting": "Soft, diffuse daylight.",
    },
)
"""Captions of our own in the style of the published ones."""


def leaves(value: Any, path: str = "") -> Leaves:
    """The values of a caption's JSON that are not empty, by path."""
    if isinstance(value, Mapping):
        parts = [leaves(one, f"{path}.{name}" if path else name) for name, one in value.items()]
        return {name: leaf for part in parts for name, leaf in part.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = [leaves(one, f"{path}[{i}]") for i, one in enumerate(value)]
        return {name: leaf for part in parts for name, leaf in part.items()}
    return {path: value} if isinstance(value, str | bool) and value else {}


_OPTION_FIELDS = tuple(name for name in SHOT_FIELDS if options(name))


# --- breaks: each takes a caption and gives its text, whether it ended, and what is whole ---------

Break = Callable[[dict[str, Any], random.Random], tuple[str, bool, Leaves]]


def _text(caption: Any, **how: Any) -> str:
    return json.dumps(caption, ensure_ascii=False, **how)


def _edited(edit: Callable[[str, random.Random], str]) -> Break:
    """A break of the text that leaves every field whole."""

    def broken(caption: dict[str, Any], rng: random.Random) -> tuple[str, bool, Leaves]:
        return edit(_text(caption), rng), True, leaves(caption)

    return broken


def _ends(caption: dict[str, Any]) -> tuple[str, list[tuple[int, str]]]:
    """The text of a caption, and where in it each value that is not empty ends."""
    chunks: list[str] = []
    ends: list[tuple[int, str]] = []
    length = 0

    def put(chunk: str) -> None:
        nonlocal length
        chunks.append(chunk)
        length += len(chunk)

    def write(value: Any, path: str) -> None:
        if isinstance(value, dict):
            put("{")
            for i, (name, one) in enumerate(value.items()):
                put(f'{", " if i else ""}"{name}": ')
                write(one, f"{path}.{name}" if path else name)
            put("}")
        elif isinstance(value, list | tuple):
            put("[")
            for i, one in enumerate(value):
                put(", " if i else "")
                write(one, f"{path}[{i}]")
            put("]")
        else:
            put(_text(value))
            if value:
                ends.append((length, path))

    write(caption, "")
    return "".join(chunks), ends


def _cut(caption: dict[str, Any], rng: random.Random) -> tuple[str, bool, Leaves]:
    text, ends = _ends(caption)
    at = rng.randrange(2, len(text))
    whole = leaves(caption)
    return text[:at], False, {path: whole[path] for end, path in ends if end <= at}


def _slip(change: Callable[[str, int, random.Random], str]) -> Break:
    """A break of one character outside prose; fields that it does not touch are whole."""

    def broken(caption: dict[str, Any], rng: random.Random) -> tuple[str, bool, Leaves]:
        text, ends = _ends(caption)
        whole = leaves(caption)
        spans = {path: (end - len(_text(whole[path])), end) for end, path in ends}
        marks = [match.start() for match in re.finditer(r'["{}\[\],:]', text)]
        outside = [at for at in marks if not any(a < at < b - 1 for a, b in spans.values())]
        at = rng.choice(outside)
        untouched = {p: whole[p] for p, (a, b) in spans.items() if not a - 1 <= at <= b}
        return change(text, at, rng), True, untouched

    return broken


def _loop_to_the_end(caption: dict[str, Any], rng: random.Random) -> tuple[str, bool, Leaves]:
    """A field that says its last words until the budget ends."""
    text, ends = _ends(caption)
    whole = leaves(caption)
    prose = [(end, path) for end, path in ends if " " in str(whole[path])]
    end, path = rng.choice(prose)
    words = str(whole[path]).split()
    run = " ".join(words[-rng.randint(1, min(8, len(words))) :])
    loop = (" " + _text(run)[1:-1]) * rng.randint(14, 60)
    at = end - 1
    return (
        text[:at] + loop[: -rng.randint(1, 5)],
        False,
        {name: whole[name] for stop, name in ends if stop < end},
    )


def _subject_loop(caption: dict[str, Any], rng: random.Random) -> tuple[str, bool, Leaves]:
    """The last subject again and again until the budget ends."""
    subjects = caption["subjects"]
    if not subjects:
        return _cut(caption, rng)
    text = _text({"subjects": [*subjects, *[subjects[-1]] * rng.randint(12, 30)]})
    return text[: -rng.randint(3, 200)], False, leaves({"subjects": subjects})


def _inner_loop(caption: dict[str, Any], rng: random.Random) -> tuple[str, bool, Leaves]:
    """A sentence that is said many times in a caption that ends well."""
    run = "The light flickers on the wall beside it."
    said = {**caption, "environment": f"{caption['environment']} {run}"}
    looped = {**said, "environment": said["environment"] + f" {run}" * rng.randint(3, 30)}
    return _text(looped), True, leaves(said)


def _without(bracket: str) -> Callable[[str, random.Random], str]:
    def edit(text: str, rng: random.Random) -> str:
        at = rng.choice(
            [m.start() for m in re.finditer(re.escape(bracket) + r"(?=[,}\]]|\Z)", text)]
        )
        return text[:at] + text[at + 1 :]

    return edit


def _sub(pattern: str, new: str, share: float = 1.0) -> Callable[[str, random.Random], str]:
    def edit(text: str, rng: random.Random) -> str:
        return re.sub(pattern, lambda m: m.expand(new) if rng.random() < share else m[0], text)

    return edit


def _respelled(caption: dict[str, Any], rng: random.Random) -> tuple[str, bool, Leaves]:
    ways: list[Callable[[str], str]] = [
        lambda o: o.replace("_", "-").title(),
        lambda o: o.replace("_", " "),
        lambda o: o.upper(),
        lambda o: o.replace("_", " ").capitalize() + ".",
        lambda o: o.replace("_", ""),
        lambda o: o.replace("_shot", "").replace("_view", "").replace("_angle", ""),
    ]
    respelled = {name: rng.choice(ways)(caption[name]) for name in _OPTION_FIELDS}
    return _text({**caption, **respelled}), True, leaves(caption)


def _renamed(text: str, rng: random.Random) -> str:
    return (
        text.replace('"shot_type"', rng.choice(['"Shot Type"', '"shotType"', '"SHOT-TYPE"']))
        .replace('"camera_motion"', rng.choice(['"Camera motion"', '"cameraMotion"']))
        .replace('"is_main_subject"', rng.choice(['"isMainSubject"', '"Is_Main_Subject"']))
        .replace('"TYPES"', rng.choice(['"types"', '"Types"']))
    )


def _too_long(caption: dict[str, Any], rng: random.Random) -> tuple[str, bool, Leaves]:
    words = " ".join(f"detail{rng.randrange(10**6)}" for _ in range(400))
    kept = leaves(caption)
    said = {**caption, "lighting": f"{caption['lighting']} {words}"}
    return _text(said), True, {name: v for name, v in kept.items() if name != "lighting"}


def _many_subjects(caption: dict[str, Any], rng: random.Random) -> tuple[str, bool, Leaves]:
    more = [
        {
            "TYPES": {"type": "Plant", "sub_type": "Tree"},
            "appearance": f"Tree number {i}.",
            "action": "",
            "expression": "",
            "position": f"Place {i}.",
            "is_main_subject": False,
        }
        for i in range(rng.randint(9, 20))
    ]
    subjects = [*caption["subjects"], *more]
    return (
        _text({**caption, "subjects": subjects}),
        True,
        leaves({**caption, "subjects": subjects[:MAX_SUBJECTS]}),
    )


def _python(caption: dict[str, Any], rng: random.Random) -> tuple[str, bool, Leaves]:
    text = repr(caption)
    assert ast.literal_eval(text) == caption  # noqa: S101
    return text, True, leaves(caption)


_PROSE = (
    "Sure! Here is the structured description of the video:\n\n",
    "The video shows the following {see below}.\n",
    'Answer "as JSON":\n',
    '<think>The main subject is {"shot_type": "other"}, I think.</think>\n',
)
_AFTER = (
    "\n\nLet me know if you need anything else!",
    "\n<|im_end|>",
    '\n\nNote: the "lighting" is a guess.',
    "<|endoftext|><|im_start|>",
)

BREAKS: dict[str, Break] = {
    "cut": _cut,
    "loop to the end": _loop_to_the_end,
    "subjects in a loop": _subject_loop,
    "loop inside": _inner_loop,
    "fence": _edited(lambda t, _: f"```json\n{t}\n```"),
    "open fence": _edited(lambda t, _: f"```json\n{t}"),
    "prose before": _edited(lambda t, r: r.choice(_PROSE) + t),
    "prose after": _edited(lambda t, r: t + r.choice(_AFTER)),
    "prose and fence": _edited(lambda t, r: f"{r.choice(_PROSE)}```\n{t}\n```{r.choice(_AFTER)}"),
    "draft before": _edited(lambda t, _: '{"shot_type": "other"}\n' + t),
    "twice": _edited(lambda t, r: "\n".join([t] * r.randint(2, 6))),
    "wrapped": _edited(lambda t, r: r.choice(['{"caption": %s}', "[%s]", '{"a": [%s]}']) % t),
    "JSON in a string": _edited(lambda t, _: json.dumps(t)),
    "escaped quotes": _edited(lambda t, _: t.replace("\\", "\\\\").replace('"', '\\"')),
    "Python": _python,
    "single quotes": _edited(_sub(r'(?<!\\)"', "'")),
    "smart quotes": _edited(_sub(r'"((?:[^"\\]|\\.)*)"', r"“\1”")),
    "unquoted keys": _edited(_sub(r'"(\w+)":', r"\1:")),
    "literals": _edited(lambda t, _: t.replace("true", "True").replace("false", "False")),
    "quoted flags": _edited(_sub(r": (true|false)", r': "\1"')),
    "trailing commas": _edited(_sub(r"([^\s{\[])([}\]])(?=[,}\]]|\Z)", r"\1,\2")),
    "missing commas": _edited(_sub(r'", "(?=\w+": )', '" "', 0.5)),
    "missing curly": _edited(_without("}")),
    "missing square": _edited(_without("]")),
    "stray bracket": _edited(_sub(r"\}(?=\])", "}}")),
    "missing quote": _edited(_sub(r'", "(?=(?:shot|camera|env|light)\w*": )', ', "', 0.5)),
    "bare quotes": _edited(lambda t, _: t.replace('\\"', '"')),
    "comments": _edited(_sub(r', "(?=\w+": )', ',  // as seen\n "', 0.3)),
    "pretty": _edited(lambda t, _: json.dumps(json.loads(t), indent=1).replace('",', '" ,')[:-1]),
    "repeated keys": _edited(_sub(r'("(?:shot_\w+|lighting)": "[^"\\]*")', r"\1, \1", 0.7)),
    "unknown keys": _edited(_sub(r'"shot_angle":', '"mood": {"is": ["calm", 1]}, "shot_angle":')),
    "null": _edited(lambda t, _: t.replace('""', "null")),
    "control characters": _edited(_sub(r"\. ", ".\n\t", 0.9)),
    "renamed keys": _edited(_renamed),
    "respelled options": _respelled,
    "too long": _too_long,
    "a mark lost": _slip(lambda t, at, _: t[:at] + t[at + 1 :]),
    "a mark too many": _slip(lambda t, at, r: t[:at] + r.choice("\"'{}[],:") + t[at:]),
    "a wrong mark": _slip(lambda t, at, r: t[:at] + r.choice("\"'{}[],:") + t[at + 1 :]),
    "too many subjects": _many_subjects,
}
"""How outputs break: what users report, and what each repair is for."""


def broken_outputs(captions: Sequence[dict[str, Any]], each: int, seed: int) -> Iterator[Broken]:
    """Every caption broken in every way, `each` times."""
    for number, caption in enumerate(captions):
        for kind, broken in BREAKS.items():
            for turn in range(each):
                rng = random.Random(f"{seed}/{number}/{kind}/{turn}")  # noqa: S311
                text, finished, kept = broken(caption, rng)
                if text != _text(caption):  # not every caption has what a way breaks
                    yield Broken(kind, text, finished, kept, leaves(caption) | kept)


# --- random damage --------------------------------------------------------------------------------

_ALPHABET = "{}[]\"'`:,\\/ \n\t\x00éü。aeT0-" + "“”’\ud83d"
_PIECES = ("true", "None", "\\u", "\\ud83d", "```", "//", "<think>", "</think>", '": "', '", "')


def damaged(texts: Sequence[str], rng: random.Random) -> str:
    """A text with a few random edits, or a short one of random marks."""
    if rng.random() < 0.05:
        return "".join(rng.choices([*_ALPHABET, *_PIECES, '"shot_type"'], k=rng.randrange(200)))
    text = rng.choice(texts)
    for _ in range(rng.randint(1, 8)):
        at, to = sorted(rng.choices(range(len(text) + 1), k=2))
        edit = rng.randrange(6)
        if edit == 0:
            text = text[:at] + text[at + rng.randint(1, 4) :]
        elif edit == 1:
            text = text[:at] + rng.choice([*_ALPHABET, *_PIECES]) + text[at:]
        elif edit == 2:
            text = text[:at] + rng.choice(_ALPHABET) + text[at + 1 :]
        elif edit == 3:
            text = text[:to] + text[at : at + 300] * rng.randint(1, 5) + text[to:]
        elif edit == 4:
            text = text[:at] + text[to:] if rng.random() < 0.3 else text[: max(at, 2)]
        else:
            text = text[:at] + rng.choice(texts)[at:]
        text = text[:20_000]
    return text


def invented(text: str, caption: ShotCaption) -> list[str]:
    """The paths of what a caption says without its words standing in the text, in their order."""
    said = [text]
    for _ in range(2):
        said.append(unescape(said[-1]))
    plain = [re.sub(r"[\W_]+", "", one).lower() for one in said]
    wrong = []
    for path, value in leaves(caption.model_dump(by_alias=True)).items():
        if path in _OPTION_FIELDS:
            stem = re.sub(r"_|(?:shot|view|angle)\Z", "", str(value))
            there = any(stem in one or (stem == "pointof" and "pov" in one) for one in plain)
        elif value is True:
            there = any("true" in one or "yes" in one for one in plain)
        else:
            words = re.findall(r"\w+", str(value))
            there = any(_in_order(words, one) for one in said)
        if not there:
            wrong.append(path)
    return wrong


def _in_order(words: Sequence[str], text: str) -> bool:
    at = 0
    for word in words:
        at = text.find(word, at)
        if at < 0:
            return False
        at += len(word)
    return True


def fuzz(outputs: Sequence[Broken], count: int, seed: int) -> Counter[str]:
    """Parse damaged texts; how many of each status. Raises AssertionError with the text."""
    rng = random.Random(seed)  # noqa: S311
    texts = [output.text for output in outputs]
    statuses: Counter[str] = Counter()
    for _ in range(count):
        text = damaged(texts, rng)
        parsed = parse(text, finished=rng.random() < 0.5)
        check(text, parsed)
        statuses[parsed.status] += 1
    return statuses


def check(text: str, parsed: Parsed) -> None:
    """What holds for every text. Raises AssertionError."""
    if (parsed.caption is None) != (parsed.status == "invalid"):
        raise AssertionError(f"{parsed.status} with {parsed.caption}: {text!r}")
    if (parsed.status == "ok") != (not parsed.notes):
        raise AssertionError(f"{parsed.status} with {parsed.notes}: {text!r}")
    if parsed.caption is None:
        return
    if parsed.status == "ok" and ShotCaption.from_json(text) != parsed.caption:
        raise AssertionError(f"read as {parsed.caption}: {text!r}")
    if ShotCaption.from_json(parsed.caption.to_json()) != parsed.caption:
        raise AssertionError(f"not by the schema: {text!r}")
    if wrong := invented(text, parsed.caption):
        raise AssertionError(f"{wrong} invented: {text!r}")


# --- the comparison -------------------------------------------------------------------------------


@dataclass
class Score:
    """What a tool made of broken outputs; `wrong` are fields that say what was never said."""

    rows: int = 0
    valid: int = 0
    fields: int = 0
    kept: int = 0
    wrong: int = 0
    whole_rows: int = 0
    cpu_seconds: float = 0.0


def score(outputs: Sequence[Broken], tool: Callable[[Broken], Any]) -> dict[str, Score]:
    """What a tool, which gives a caption's JSON or None, makes of them: by kind and in all."""
    started = time.process_time()
    made = [tool(output) for output in outputs]
    seconds = time.process_time() - started
    scores: dict[str, Score] = defaultdict(Score)
    for output, tree in zip(outputs, made):
        found = {path: _plain(value) for path, value in leaves(tree).items()}
        said = {path: _plain(value) for path, value in output.said.items()}
        kept = sum(found.get(path) == _plain(value) for path, value in output.kept.items())
        wrong = sum(
            path in output.said and not str(said[path]).startswith(str(value))
            for path, value in found.items()
        )
        for one in (scores["all"], scores[output.kind]):
            one.rows += 1
            one.valid += _is_valid(tree)
            one.fields += len(output.kept)
            one.kept += kept
            one.wrong += wrong
            one.whole_rows += kept == len(output.kept)
    scores["all"].cpu_seconds = seconds
    return scores


def _plain(value: str | bool) -> str | bool:
    return " ".join(value.split()) if isinstance(value, str) else value


def _is_valid(tree: Any) -> bool:
    try:
        ShotCaption.model_validate(tree)
    except ValidationError:
        return False
    return True


def _ours(output: Broken) -> Any:
    caption = parse(output.text, output.finished).caption
    return None if caption is None else caption.model_dump(by_alias=True)


def _json(output: Broken) -> Any:
    try:
        return json.loads(output.text)
    except ValueError:
        return None


def _json_repair(output: Broken) -> Any:
    import json_repair

    return json_repair.loads(output.text)


TOOLS = {"captioner.repair": _ours, "json_repair": _json_repair, "json.loads": _json}


def read_captions(path: Path) -> list[dict[str, Any]]:
    """The captions of a CSV with a column `structural_caption`, as the released script writes."""
    with path.open(newline="", encoding="utf-8") as lines:
        return [json.loads(row["structural_caption"]) for row in csv.DictReader(lines)]


@app.command()
def main(
    captions: Annotated[
        Path | None, typer.Option(help="More captions: a CSV of the released script.")
    ] = None,
    each: Annotated[int, typer.Option(min=1, help="Outputs of each kind from each caption.")] = 20,
    seed: Annotated[int, typer.Option(help="Another seed breaks them at other places.")] = 0,
    fuzz_count: Annotated[int, typer.Option("--fuzz", help="Parse N damaged texts instead.")] = 0,
    write: Annotated[Path | None, typer.Option(help="Write the broken outputs instead.")] = None,
) -> None:
    """Count what is kept of broken outputs, and how fast."""
    of = [*CAPTIONS, *(read_captions(captions) if captions else [])]
    outputs = list(broken_outputs(of, each, seed))
    console = Console(width=100)
    if write is not None:
        lines = [
            json.dumps({k: v for k, v in asdict(output).items() if k != "said"})
            for output in outputs
        ]
        write.write_text("\n".join(lines) + "\n", encoding="ascii")
        return
    if fuzz_count:
        started = time.process_time()
        statuses = fuzz(outputs, fuzz_count, seed)
        console.print(f"{fuzz_count} texts, {time.process_time() - started:.0f} CPU-seconds:")
        console.print(dict(statuses), "nothing raised, nothing invented")
        return
    scores = {name: score(outputs, tool) for name, tool in TOOLS.items()}
    console.print(_totals(scores), _by_kind(scores))


def _totals(scores: Mapping[str, Mapping[str, Score]]) -> Table:
    columns = ("", "rows/s", "valid", "whole fields kept", "rows with all kept", "wrong fields")
    table = Table(*columns)
    for name, by_kind in scores.items():
        one = by_kind["all"]
        table.add_row(
            name,
            f"{one.rows / max(one.cpu_seconds, 1e-9):,.0f}",
            f"{one.valid / one.rows:.1%}",
            f"{one.kept / one.fields:.1%}",
            f"{one.whole_rows / one.rows:.1%}",
            str(one.wrong),
        )
    return table


def _by_kind(scores: Mapping[str, Mapping[str, Score]]) -> Table:
    table = Table("whole fields kept", *(name for name in scores), title="by kind")
    for kind in BREAKS:
        shares = [by_kind[kind].kept / max(1, by_kind[kind].fields) for by_kind in scores.values()]
        table.add_row(kind, *(f"{share:.1%}" for share in shares))
    return table


if __name__ == "__main__":
    app()
