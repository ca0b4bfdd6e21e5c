"""The review pages: a real server, in a process of its own, and real Chromium."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from captioner.decode import read_clip
from captioner.schema import FIELDS, SHOT_FIELDS, ShotCaption
from curation.ledger import Ledger, Row
from eval.camera_text import read_camera
from eval.judge import read_verdicts
from eval.review_answers import Answers, AnswersError, LabelAnswer, VerdictAnswer
from eval.review_clips import ReviewClip, clips_of_ledger, clips_of_testset
from eval.review_modes import CAMERA, LABEL_ROWS, LabelMode, Reply, VerdictMode
from eval.review_preview import preview
from eval.review_server import ReviewServer, is_loopback
from eval.synth import write_video
from eval.testset import CANNOT_TELL, Clip, Labels, TestsetError, read_testset, sha256
from tests.clips import panning, rotated, two_shots
from tests.command import refused

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<img src=x onerror=\"document.title='taken over'\">"
CAPTION = ShotCaption.model_validate(
    {
        "subjects": [
            {"TYPES": {"type": "Human"}, "appearance": HOSTILE, "is_main_subject": True},
            {"TYPES": {"type": "Animal"}},
        ],
        "shot_type": "close_up",
        "camera_motion": "the camera pans left",
        "lighting": "Warm light.",
    }
)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_shots(tmp_path_factory.mktemp("video") / "two.mp4")


@pytest.fixture
def out(tmp_path: Path, video: Path) -> Path:
    """An output with three kept clips, the first with a file of its own, and a dropped one."""
    folder = tmp_path / "out"
    (folder / "clips").mkdir(parents=True)
    shutil.copy(video, folder / "clips" / "0.mp4")
    rows = [
        Row.model_validate(
            {
                "clip_id": f"{number:024x}", "source": str(video), "source_sha256": sha256(video),
                "start": float(number % 2), "end": number % 2 + 1.0, "frames": 25,
                "decision": "drop" if number == 3 else "keep", "config_hash": "0",
                "clip": "clips/0.mp4" if number == 0 else None, "caption": CAPTION.model_dump(),
            }
        )
        for number in range(4)
    ]  # fmt: skip
    Ledger(folder / "ledger", folder / "state").write("a", rows)
    return folder


class Served:
    """A server in its own process; `restart` starts it again at the same port."""

    def __init__(self, *arguments: object, port: int = 0) -> None:
        self.arguments = arguments
        self._start(port)

    def _start(self, port: int) -> None:
        words = [sys.executable, "-u", "-m", "eval.review", *map(str, self.arguments)]
        self.process = subprocess.Popen(
            [*words, "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout
        said = []
        for line in self.process.stdout:
            said.append(line)
            if line.startswith("http://"):
                self.url = line.strip()
                self.host = urlsplit(self.url).netloc
                return
        raise AssertionError("".join(said))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        self._start(urlsplit(self.url).port or 0)

    def ask(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str = ""
    ) -> tuple[int, bytes, dict[str, str]]:
        port = urlsplit(self.url).port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            content = json.dumps(body) if body is not None else None
            kind = {"Content-Type": "application/json"} if content else {}
            verb = method or ("POST" if content else "GET")
            connection.request(verb, path, content, kind | (headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}

    def answer(self, clip: str, row: str, value: Any, rater: str = "anna", **headers: str) -> int:
        body = {"clip_id": clip, "rater": rater, "row": row, "value": value}
        return self.ask("/api/answer", body, headers)[0]


@contextlib.contextmanager
def in_process(
    out: Path, path: Path, token: str | None = None, prefill: bool = False
) -> Iterator[Served]:
    """A server in a thread: quick to start."""
    clips = {clip.clip_id: clip for clip in clips_of_ledger(out)}
    answers = Answers(path, LabelAnswer)
    with ReviewServer(
        "127.0.0.1", 0, LabelMode(clips, answers, prefill=prefill), "key", token=token
    ) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served = Served.__new__(Served)
        served.url, served.host = server.url, urlsplit(server.url).netloc
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
            answers.close()


@pytest.fixture
def serve() -> Iterator[Any]:
    started: list[Served] = []

    def start(*arguments: object) -> Served:
        started.append(Served(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def serve_here(out: Path) -> Iterator[Any]:
    """Label servers in threads."""
    with contextlib.ExitStack() as stack:
        yield lambda path, **options: stack.enter_context(in_process(out, path, **options))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "eval.review", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


FIRST, SECOND = f"{0:024x}", f"{1:024x}"


# --- the form -------------------------------------------------------------------------------------


def test_the_forms_follow_from_the_schema(out: Path, tmp_path: Path) -> None:
    clips = {clip.clip_id: clip for clip in clips_of_ledger(out)}
    assert set(LABEL_ROWS) == {*SHOT_FIELDS, "subjects"}
    mode = LabelMode(clips, Answers(tmp_path / "a.jsonl", LabelAnswer))
    for row in mode.rows(clips[FIRST], "anna"):
        keys = [option.key for option in row.options]
        assert len(set(keys)) == len(keys)
        for option in row.options if row.kind == "choice" else ():
            Labels.model_validate({row.id: option.value})
    asked = VerdictMode(clips, Answers(tmp_path / "b.jsonl", VerdictAnswer)).rows(
        clips[FIRST], "anna"
    )
    assert [row.id for row in asked] == [
        *SHOT_FIELDS,
        *("0.TYPES_type", "0.appearance", "0.is_main_subject", "1.TYPES_type", "1.is_main_subject"),
    ]
    assert {row.id.rpartition(".")[2] for row in asked} <= set(FIELDS)


def test_every_camera_move_can_be_said_with_all_that_it_does_not_rule_out() -> None:
    for option in CAMERA[:-1]:
        together = [o.value for o in CAMERA[:-1] if o.value not in option.clears]
        for other in together:
            move = read_camera("+".join({option.value, other}))
            assert move
            assert move.elements == {option.value, other}
        for other in option.clears:
            move = read_camera("+".join([option.value, other]))
            assert not move or move.elements != {option.value, other}


# --- answers --------------------------------------------------------------------------------------


def labelled(path: Path) -> Answers[LabelAnswer]:
    return Answers(path, LabelAnswer)


def one_label(rater: str = "anna", **labels: Any) -> LabelAnswer:
    return LabelAnswer(clip_id=FIRST, rater=rater, labels=Labels.model_validate(labels))


def test_the_last_answer_of_a_rater_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    answers = labelled(path)
    for rater, value in [("anna", "close_up"), ("ben", "full_shot"), ("anna", "long_shot")]:
        answers.add(one_label(rater, shot_type=value))
    answers.add(one_label(shot_angle=None))
    answers.close()
    again = labelled(path)
    told = {name: one.labels.shot_type for name, one in again.of(FIRST, "shot_type").items()}
    assert told == {"anna": "long_shot", "ben": "full_shot"}
    assert len(lines(path)) == 4, "nothing is written over"


def test_a_line_cut_short_at_any_byte_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    answers = labelled(path)
    answers.add(one_label(shot_type="close_up"))
    first = path.stat().st_size
    answers.add(one_label(shot_angle="eye_level"))
    answers.close()
    whole = path.read_bytes()
    for end in range(first + 1, len(whole), 7):
        path.write_bytes(whole[:end])
        again = labelled(path)
        assert len(again.all()) == 1
        assert "cut short" in again.note
        again.add(one_label(shot_position="other"))
        again.close()
        assert len(labelled_then_closed(path)) == 2


def labelled_then_closed(path: Path) -> list[LabelAnswer]:
    answers = labelled(path)
    answers.close()
    return answers.all()


def test_a_full_disk_keeps_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    answers = labelled(path)
    answers.add(one_label(shot_type="close_up"))
    before, write = path.read_bytes(), os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:10]))
        with pytest.raises(OSError, match="full"):
            answers.add(one_label(shot_type="long_shot"))
    assert path.read_bytes() == before
    assert [one.labels.shot_type for one in answers.all()] == ["close_up"]


def test_one_server_a_file_and_one_mode(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "a.jsonl"
    answers = labelled(path)
    answers.add(one_label(shot_type="close_up"))
    with pytest.raises(AnswersError, match="in use"):
        labelled(path)
    assert len(Answers(path, LabelAnswer, read_only=True).all()) == 1
    answers.close()
    done = command("verdict", out, "-o", path)
    assert done.returncode == 2
    assert "a.jsonl:1: no line of this mode" in done.stderr
    assert done.stderr.count("\n") == 1


# --- the server -----------------------------------------------------------------------------------


def test_a_video_is_served_in_parts(
    out: Path, tmp_path: Path, serve_here: Any, video: Path
) -> None:
    served, content = serve_here(tmp_path / "a.jsonl"), video.read_bytes()
    size = len(content)
    cases = {
        "bytes=0-99": (206, content[:100]),
        "bytes=100-": (206, content[100:]),
        "bytes=-50": (206, content[-50:]),
        f"bytes={size - 1}-{size + 500}": (206, content[-1:]),
        f"bytes={size}-": (416, b""),
        "bytes=-0": (416, b""),
        "bytes=0-1,5-6": (200, content),
        "bytes=9-3": (200, content),
        "lines=1-2": (200, content),
    }
    for header, (status, body) in cases.items():
        found = served.ask(f"/video/{FIRST}", headers={"Range": header})
        assert (found[0], found[1]) == (status, body), header
    status, body, headers = served.ask(f"/video/{FIRST}", headers={"Range": "bytes=5-9"})
    assert headers["content-range"] == f"bytes 5-9/{size}"
    assert headers["content-type"] == "video/mp4"
    status, body, headers = served.ask(f"/video/{FIRST}", method="HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", str(size))


def test_nothing_but_the_clips_is_served(out: Path, tmp_path: Path, serve_here: Any) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    ledger = Ledger(out / "ledger", out / "state")
    rows = list(ledger.rows())
    rows[0] = rows[0].model_copy(update={"clip": "../secret.mp4"})
    rows[1] = rows[1].model_copy(update={"source": "/etc/passwd"})
    ledger.write("a", rows)
    served = serve_here(tmp_path / "a.jsonl")
    for path in (
        *("/video/../../secret.mp4", "/video/..%2F..%2Fsecret.mp4", "/video//etc/passwd"),
        *("/video/%2e%2e/secret.mp4", "/../review.py", "/review.py", f"/video/{FIRST}/../x"),
        *(f"/video/{SECOND}", "/video/", "/video/%00", "/video/clips%2F0.mp4"),
    ):
        status, body, _ = served.ask(path)
        assert status == 404, path
        assert b"secret" not in body.replace(b"secret.mp4", b"")
        assert b"root:" not in body
    assert served.ask(f"/video/{FIRST}")[1] != b"secret", "a clip's file is in its folder"


def test_pages_of_other_sites_can_neither_read_nor_write(
    out: Path, tmp_path: Path, serve_here: Any
) -> None:
    path = tmp_path / "a.jsonl"
    served = serve_here(path)
    assert served.ask("/api/session")[0] == 200
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        assert served.ask("/api/session", headers={"Host": host})[0] == 403, host
    value = ["close_up"]
    refused = [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Content-Type": "text/plain"},
        {"Host": "evil.example"},
    ]
    for headers in refused:
        status = served.answer(FIRST, "shot_type", value, **headers)
        assert status in (403, 415), headers
    assert served.ask("/api/answer", "x" * 70_000)[0] == 413
    assert path.read_text() == ""
    assert served.answer(FIRST, "shot_type", value, Origin=f"http://{served.host}") == 200
    assert len(lines(path)) == 1
    _, _, headers = served.ask("/")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("clip", "row", "value", "rater"),
    [
        ("nobody", "shot_type", ["close_up"], "anna"),
        (FIRST, "shot_type", ["closeup"], "anna"),
        (FIRST, "shot_type", "close_up", "anna"),
        (FIRST, "appearance", ["x"], "anna"),
        (FIRST, "camera_motion", ["pan_left", "pan_right"], "anna"),
        (FIRST, "camera_motion", ["static", "pan_left"], "anna"),
        (FIRST, "subjects", [{"type": "Human"}], "anna"),
        (FIRST, "subjects", {"main_subject_only": True, "subjects": [{"type": "Alien"}]}, "anna"),
        (FIRST, "shot_type", ["close_up"], ""),
        (FIRST, "shot_type", ["close_up"], "../anna"),
        (FIRST, "shot_type", ["close_up"], "a" * 41),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(
    out: Path, tmp_path: Path, clip: str, row: str, value: Any, rater: str
) -> None:
    with in_process(out, tmp_path / "a.jsonl") as served:
        assert served.answer(clip, row, value, rater) in (400, 404)
    assert (tmp_path / "a.jsonl").read_text() == ""


def test_beyond_this_machine_everything_takes_the_token(out: Path, tmp_path: Path) -> None:
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "127.8.8.8")] == [True] * 4
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.7", "a.example", "127.evil")))
    with pytest.raises(ValueError, match="takes a token"):
        ReviewServer("0.0.0.0", 0, None, "key")  # type: ignore[arg-type]
    with in_process(out, tmp_path / "a.jsonl", token="s3cret-é") as served:
        paths = ("/", "/review.js", "/api/session", f"/video/{FIRST}", "/?token=wrong")
        for path in (*paths, "/api/session?token=s3cret-%C3%A9"):
            assert served.ask(path)[0] == 403, path
        assert served.answer(FIRST, "shot_type", ["close_up"]) == 403
    with in_process(out, tmp_path / "b.jsonl", token="s3cret") as served:
        assert served.url.endswith("?token=s3cret")
        status, _, headers = served.ask("/?token=s3cret&rater=anna")
        assert (status, headers["location"]) == (303, "/?rater=anna")
        assert "HttpOnly" in headers["set-cookie"]
        assert "SameSite=Strict" in headers["set-cookie"]
        cookie = {"Cookie": headers["set-cookie"].split(";")[0]}
        assert served.ask("/api/session", headers=cookie)[0] == 200
        assert served.answer(FIRST, "shot_type", ["close_up"], **cookie) == 200
        assert served.ask("/api/session", headers={"Cookie": "review_token=x"})[0] == 403


def test_many_raters_at_once_lose_nothing(out: Path, tmp_path: Path) -> None:
    path, raters = tmp_path / "a.jsonl", [f"rater {i}" for i in range(8)]
    rows = {"shot_type": "close_up", "shot_angle": "eye_level", "shot_position": "other"}

    def work(rater: str) -> None:
        for clip in (FIRST, SECOND):
            for row, value in rows.items():
                assert served.answer(clip, row, [value], rater) == 200

    with in_process(out, path) as served:
        threads = [threading.Thread(target=work, args=(rater,)) for rater in raters]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = {(one["clip_id"], one["rater"], *one["labels"]) for one in lines(path)}
    assert found == {(c, r, f) for c in (FIRST, SECOND) for r in raters for f in rows}


def test_a_blind_rater_is_sent_no_caption_and_nobody_elses_answers(
    out: Path, tmp_path: Path, serve_here: Any
) -> None:
    blind = serve_here(tmp_path / "a.jsonl")
    assert blind.answer(FIRST, "lighting", "secretly dim", "ben") == 200
    page = blind.ask(f"/api/clip?id={FIRST}&rater=anna")[1].decode()
    assert "Warm light" not in page
    assert "secretly dim" not in page
    shown = serve_here(tmp_path / "b.jsonl", prefill=True)
    rows = json.loads(shown.ask(f"/api/clip?id={FIRST}&rater=anna")[1])["rows"]
    suggested = {row["id"]: row["suggestion"] for row in rows}
    assert suggested["lighting"] == "Warm light."
    assert suggested["shot_type"] == ["close_up"]
    assert suggested["camera_motion"] == ["pan_left"]
    assert suggested["shot_angle"] is None
    assert all(row["value"] is None for row in rows), "a suggestion is no answer"


# --- what becomes of the answers ------------------------------------------------------------------


def test_labels_become_a_test_set(out: Path, tmp_path: Path, video: Path) -> None:
    path, made = tmp_path / "a.jsonl", tmp_path / "sets" / "set.jsonl"
    said = {"type": "Human", "is_main_subject": True}
    with in_process(out, path) as served:
        served.answer(FIRST, "shot_type", ["close_up", "medium_shot"])
        served.answer(FIRST, "camera_motion", ["handheld", "tilt_up", "pan_left"])
        served.answer(FIRST, "subjects", {"main_subject_only": True, "subjects": [said]})
        served.answer(FIRST, "shot_angle", ["eye_level"])
        served.answer(FIRST, "shot_angle", [CANNOT_TELL])
        served.answer(FIRST, "lighting", "Dim.")
        served.answer(FIRST, "lighting", None)
        served.answer(FIRST, "shot_type", ["close_up"], "ben")
        done = command("export", out, path, "-o", made)  # while the raters go on
        assert done.returncode == 0, done.stderr
    assert "4 clips, 2 raters" in done.stdout
    found = {(one.clip.clip_id, one.clip.rater): one for one in read_testset(made)}
    assert found[FIRST, "anna"].clip.labels.model_dump(exclude_unset=True) == {
        "shot_type": ("close_up", "medium_shot"),
        "camera_motion": "pan_left+tilt_up+handheld",
        "subjects": (said,),
        "main_subject_only": True,
        "shot_angle": CANNOT_TELL,
    }
    assert found[FIRST, "anna"].file.resolve() == video.resolve()
    assert found[FIRST, "anna"].clip.sha256 == sha256(video)
    assert found[SECOND, None].clip.labels == Labels()
    # A test set can be labelled on; its other raters count in the agreement and stay in it.
    more, again = tmp_path / "more.jsonl", tmp_path / "again.jsonl"
    answers = labelled(more)
    answers.add(one_label("anna", shot_type="long_shot"))
    answers.close()
    assert command("export", made, more, "-o", again).returncode == 0
    merged = {(one.clip.clip_id, one.clip.rater): one.clip.labels for one in read_testset(again)}
    assert merged[FIRST, "anna"].shot_type == "long_shot"
    assert merged[FIRST, "anna"].shot_angle == CANNOT_TELL
    assert merged[FIRST, "ben"].shot_type == "close_up"


def test_a_verdict_is_on_the_words_that_were_read(out: Path, tmp_path: Path) -> None:
    answers = Answers(tmp_path / "v.jsonl", VerdictAnswer)
    clips = {clip.clip_id: clip for clip in clips_of_ledger(out)}
    mode = VerdictMode(clips, answers)
    for row in mode.rows(clips[FIRST], "anna"):
        mode.keep(Reply(clip_id=FIRST, rater="anna", row=row.id, value=["right"]))
    assert mode.answered(clips[FIRST], "anna")
    other = CAPTION.model_copy(update={"lighting": "Cold light."})
    changed = replace(clips[FIRST], caption=other)
    again = VerdictMode({FIRST: changed}, answers)
    open_ = [row.id for row in again.rows(changed, "anna") if row.value is None]
    assert open_ == ["lighting"], "what else was ruled on still stands"
    assert not again.answered(changed, "anna")


def test_a_batch_is_accepted_or_not(out: Path, tmp_path: Path, serve: Any) -> None:
    path = tmp_path / "c.jsonl"
    served = serve("check", out, "-o", path, "--clips", 9)
    clips = [one["id"] for one in json.loads(served.ask("/api/session")[1])["clips"]]
    assert sorted(clips) == [FIRST, SECOND, f"{2:024x}"], "the kept clips and no other"
    for clip in clips[:2]:
        assert served.answer(clip, "check", ["good"]) == 200
    done = command("outcome", out, path, "--clips", 9)
    assert done.returncode == 1
    assert "1 drawn clips are not judged" in done.stdout
    assert served.answer(clips[2], "check", ["good", "type"]) == 400
    assert served.answer(clips[2], "check", ["good"], "ben") == 200
    done = command("outcome", out, path, "--clips", 9)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("accept: 0 bad of 3 checked, of 3 drawn from 3")
    assert served.answer(clips[2], "check", ["type", "basic_quality"]) == 200
    done = command("outcome", out, path, "--clips", 9)
    assert (done.returncode, done.stdout[:19]) == (1, "reject: 1 bad of 3 ")


def test_mistakes_are_told_in_a_line(out: Path, tmp_path: Path, video: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    bare = tmp_path / "bare.jsonl"
    clip = {"clip_id": "a", "path": str(video), "sha256": sha256(video)}
    bare.write_text(json.dumps(clip) + "\n")
    answers = tmp_path / "x.jsonl"
    for arguments, told in [
        (("label", empty, "-o", answers), "no ledger in it"),
        (("check", empty, "-o", answers), "no ledger in it"),
        (("label", out, "-o", answers, "--fields", "mood"), "--fields mood: none of shot_type"),
        (("verdict", bare, "-o", answers), "no captions to rule on; give --captions OUT"),
        (("label", bare, "-o", answers, "--prefill"), "no captions to start from"),
        (("label", out, "-o", answers, "--captions", out), "--captions is for test sets"),
    ]:
        assert told in refused("eval.review", *arguments)
    assert not answers.exists()


def test_a_clip_without_its_video_says_why(out: Path, tmp_path: Path, video: Path) -> None:
    gone, changed = tmp_path / "gone.mp4", tmp_path / "changed.mp4"
    shutil.copy(video, changed)
    path = tmp_path / "set.jsonl"
    clips = [
        {"clip_id": name.stem, "path": name.name, "sha256": sha256(video)}
        for name in (gone, changed)
    ]
    path.write_text("".join(json.dumps(clip) + "\n" for clip in clips))
    found = {clip.clip_id: clip for clip in clips_of_testset(path, None)[0]}
    assert found["changed"].problem == ""
    changed.write_bytes(b"other")
    assert "has changed since" in found["changed"].problem
    assert "No such file" in found["gone"].problem
    with pytest.raises(TestsetError, match="no captions in it"):
        clips_of_testset(path, empty_folder(tmp_path))


def empty_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "nothing"
    folder.mkdir()
    return folder


# --- in a browser ---------------------------------------------------------------------------------


ERRORS: list[str] = []


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("needs Chromium")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def _free_of_errors() -> Iterator[None]:
    """Whatever goes wrong in a page fails its test."""
    ERRORS.clear()
    yield
    assert not ERRORS


def opened(chromium: Any, served: Served, rater: str) -> Any:
    """A page of a browser profile of its own."""
    page = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(15_000)
    page.on("pageerror", lambda error: ERRORS.append(str(error)))
    mark = "&" if "?" in served.url else "?"
    page.goto(f"{served.url}{mark}rater={rater}")
    page.wait_for_selector(".row.active")
    return page


def until(page: Any, truth: str) -> None:
    """Wait for it; playwright's own way needs an eval, which the page's policy rightly forbids."""
    end = time.monotonic() + 20
    while not page.evaluate(truth):
        assert time.monotonic() < end, f"never: {truth}; {page.inner_text('body')}"
        page.wait_for_timeout(20)


def saved(page: Any) -> None:
    until(page, "document.getElementById('saved').textContent === 'saved'")
    until(page, "outbox().length === 0")


def active(page: Any) -> str:
    return str(page.get_attribute(".row.active", "data-row"))


def pressed(page: Any, row: str) -> list[str]:
    return list(page.locator(f"[data-row='{row}'] button[aria-pressed=true]").all_inner_texts())


def test_a_clip_is_labelled_with_keys_alone_and_a_reload_keeps_it(
    out: Path, tmp_path: Path, serve: Any, chromium: Any
) -> None:
    path = tmp_path / "a.jsonl"
    page = opened(chromium, serve("label", out, "-o", path), "anna")
    until(page, "video.currentTime > 0.2 && !video.paused")
    page.keyboard.press("Space")
    assert page.evaluate("video.paused")
    page.keyboard.press("4")
    assert active(page) == "shot_angle"
    page.keyboard.press("1")
    page.keyboard.press("0")
    for key in ("3", "4", "6", "Enter"):  # pan right takes pan left back
        page.keyboard.press(key)
    assert active(page) == "environment"
    page.keyboard.press("Enter")
    page.keyboard.type("A kitchen, 2 people.")  # digits are text here
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    assert active(page) == "subjects"
    page.keyboard.press("a")
    page.keyboard.type("Hu")
    page.keyboard.press("Tab")
    page.keyboard.type("Woman")
    page.keyboard.press("Escape")
    saved(page)
    page.reload()
    page.wait_for_selector(".row.active")
    assert [*pressed(page, "shot_type"), *pressed(page, "camera_motion")] == [
        *("4close up", "4pan right", "6tilt up")
    ]
    assert page.input_value("[data-row=environment] textarea") == "A kitchen, 2 people."
    assert page.input_value("[data-row=subjects] select") == "Human"
    assert active(page) == "lighting", "the first open question"
    assert "1 answered" in page.inner_text("#count")
    said: dict[str, Any] = {}
    for line in lines(path):
        assert (line["clip_id"], line["rater"]) == (FIRST, "anna")
        said |= line["labels"]
    assert said == {
        "shot_type": "close_up",
        "shot_angle": "eye_level",
        "shot_position": CANNOT_TELL,
        "camera_motion": "pan_right+tilt_up",
        "environment": "A kitchen, 2 people.",
        "subjects": [{"type": "Human", "sub_type": "Woman", "is_main_subject": True}],
        "main_subject_only": False,
    }


def test_a_prefilled_form_is_taken_with_enter_alone(
    out: Path, tmp_path: Path, serve_here: Any, chromium: Any
) -> None:
    path = tmp_path / "a.jsonl"
    page = opened(chromium, serve_here(path, prefill=True), "anna")
    page.keyboard.press("Enter")
    assert active(page) == "shot_angle"
    page.keyboard.press("Enter")  # nothing is suggested, so nothing is answered
    while active(page) != "camera_motion":
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")  # types
    page.keyboard.press("Enter")  # takes
    assert active(page) == "subjects"
    page.keyboard.press("Enter")
    until(page, "clip.id.endsWith('2')")
    saved(page)
    said: dict[str, Any] = {}
    for line in lines(path):
        assert line["prefilled"]
        said |= line["labels"]
    subjects = said.pop("subjects")
    assert [one["type"] for one in subjects] == ["Human", "Animal"]
    assert said == {
        "shot_type": "close_up",
        "camera_motion": "pan_left",
        "lighting": "Warm light.",
        "main_subject_only": False,
    }


def test_a_part_of_a_source_loops_within_its_bounds(
    out: Path, tmp_path: Path, serve_here: Any, chromium: Any
) -> None:
    served = serve_here(tmp_path / "a.jsonl")
    page = opened(chromium, served, "anna")
    page.goto(f"{served.url}?rater=anna&clip={SECOND}")
    page.wait_for_selector(".row.active")
    page.evaluate("window.times = []; setInterval(() => times.push(video.currentTime), 20)")
    until(page, "times.some((t, i) => t > 1 && t < times[i - 1] - 0.3)")  # came round
    times = page.evaluate("times.filter((t) => t > 0)")
    assert min(times) >= 0.99
    assert max(times) < 2.1


def test_what_the_browser_cannot_play_is_converted(
    out: Path, tmp_path: Path, serve_here: Any, chromium: Any
) -> None:
    odd = write_video(tmp_path / "odd.avi", panning(1, 50), codec="mpeg4")
    ledger = Ledger(out / "ledger", out / "state")
    rows = list(ledger.rows())
    rows[1] = rows[1].model_copy(update={"source": str(odd)})  # its second second
    rows[2] = rows[2].model_copy(update={"source": str(tmp_path / "broken.avi")})
    (tmp_path / "broken.avi").write_bytes(b"no video")
    ledger.write("a", rows)
    served = serve_here(tmp_path / "a.jsonl")
    page = opened(chromium, served, "anna")
    page.goto(f"{served.url}?rater=anna&clip={SECOND}")
    until(page, "video.currentTime > 0.2 && video.videoWidth === 320")
    assert page.evaluate("video.duration") == pytest.approx(1.0, abs=0.1)
    assert "cannot play the file" in page.inner_text("#title")
    page.goto(f"{served.url}?rater=anna&clip={2:024x}")
    until(page, "document.getElementById('problem').innerText.includes('neither this browser')")


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_preview_is_upright(tmp_path: Path, degrees: int) -> None:
    path = rotated(tmp_path / "turned.mp4", degrees)
    reference = Clip(clip_id="a", path="turned.mp4", sha256="0" * 64)
    made = tmp_path / "made.mp4"
    made.write_bytes(preview(ReviewClip(reference, path, path, None, None)))
    first, again = (read_clip(one).frames[0] for one in (path, made))
    assert first.shape == again.shape
    assert np.abs(first.astype(int) - again).mean() < 8


def test_two_raters_at_once_and_their_agreement(
    out: Path, tmp_path: Path, serve: Any, chromium: Any
) -> None:
    path = tmp_path / "v.jsonl"
    served = serve("verdict", out, "-o", path)
    anna, ben = opened(chromium, served, "anna"), opened(chromium, served, "ben")
    assert anna.title() == "verdict: skycaptioner", "nothing of the caption ran"
    assert HOSTILE in anna.inner_text("#rows")
    rows = anna.locator(".row").count()
    for number in range(rows):
        anna.keyboard.press("1")
        ben.keyboard.press("2" if number == 1 else "1")
    until(anna, "clip.id.endsWith('2')")  # sorted by time: the third clip is next
    saved(anna)
    saved(ben)
    assert len(lines(path)) == 2 * rows
    people = read_verdicts([path])  # as jobs.evaluate --verdicts does
    assert people.raters() == ["anna", "ben"]
    assert [set(given) for given in people.by_key.values()] == [{"anna", "ben"}] * rows
    ben.keyboard.press("s")
    ben.wait_for_selector("#standing table")
    assert f"{2 * rows} verdicts" in ben.inner_text("#standing")
    told = ben.locator("#standing tr", has_text="shot angle").inner_text().split()
    assert told[2:6] == ["1", "1", "0", "50%"]


def test_a_killed_server_loses_nothing_that_was_answered(
    out: Path, tmp_path: Path, serve: Any, chromium: Any
) -> None:
    path = tmp_path / "a.jsonl"
    served = serve("label", out, "-o", path)
    page = opened(chromium, served, "anna")
    page.keyboard.press("1")
    saved(page)
    served.kill()
    assert len(lines(path)) == 1, "confirmed, so on the disk"
    page.keyboard.press("2")  # answered while nobody listens
    until(page, "document.getElementById('saved').textContent.includes('not saved')")
    served.restart()
    saved(page)  # without anybody doing anything
    assert [line["labels"] for line in lines(path)] == [
        {"shot_type": "long_shot"},
        {"shot_angle": "high_angle"},
    ]
    page.reload()
    page.wait_for_selector(".row.active")
    assert pressed(page, "shot_angle") == ["2high angle"]


def test_a_reload_between_answer_and_server_keeps_it(
    out: Path, tmp_path: Path, serve: Any, chromium: Any
) -> None:
    path = tmp_path / "a.jsonl"
    served = serve("label", out, "-o", path)
    page = opened(chromium, served, "anna")
    served.kill()
    page.keyboard.press("3")
    until(page, "outbox().length === 1")
    served.restart()
    page.reload()
    page.wait_for_selector(".row.active")
    saved(page)
    assert pressed(page, "shot_type") == ["3medium shot"]
    assert [line["labels"] for line in lines(path)] == [{"shot_type": "medium_shot"}]


@pytest.mark.parametrize("width", [1280, 400])
def test_the_sample_check_shows_what_becomes_of_the_batch(
    out: Path, tmp_path: Path, serve: Any, chromium: Any, width: int
) -> None:
    page = opened(chromium, serve("check", out, "-o", tmp_path / "c.jsonl", "--clips", 3), "anna")
    page.set_viewport_size({"width": width, "height": 800})
    page.keyboard.press("1")
    until(page, "at === 1")
    until(page, "document.getElementById('saved').textContent === 'saved'")
    if page.is_hidden("#standing"):
        page.keyboard.press("s")
    until(page, "document.getElementById('standing').innerText.includes('0 bad of 1')")
    assert "accept, not sure" in page.inner_text("#standing")
    assert "too few to say" in page.inner_text("#standing")
    page.keyboard.press("2")
    page.keyboard.press("4")
    assert len(pressed(page, "check")) == 2
    page.keyboard.press("Enter")
    until(page, "at === 2")
    saved(page)
    until(page, "document.getElementById('standing').innerText.includes('1 bad of 2')")
    assert "reject: 1 bad of 2" in page.inner_text("#standing"), "a third of it at least"
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, "nothing sticks out"


def test_without_a_name_the_page_asks(out: Path, tmp_path: Path, serve: Any, chromium: Any) -> None:
    path = tmp_path / "a.jsonl"
    page = chromium.new_page()
    page.goto(serve("label", out, "-o", path).url)
    page.fill("#rater", "Jo O")
    page.keyboard.press("Enter")
    page.wait_for_selector(".row.active")
    page.keyboard.press("1")
    saved(page)
    assert lines(path)[0]["rater"] == "Jo O"
    page.close()
