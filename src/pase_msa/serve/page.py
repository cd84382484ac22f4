"""The page: a clip goes in, the answer stands beside it; modalities can be withheld; several clips become a CSV."""

from __future__ import annotations

import csv
import signal
import sys
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from pase_msa.errors import PaSEError
from pase_msa.media.clip import Clip
from pase_msa.media.decode import probe
from pase_msa.media.manifest import MEDIA
from pase_msa.serve import render
from pase_msa.serve.clips import ClipPredictor, as_rows

_WIDTHS = {"clip": "230px", "text": "420px"}
_EMPTY = '<div class="pase-empty">Upload or record a clip, or take an example. The answer appears here.</div>'
_SCROLL = "() => { innerWidth < 700 && document.querySelector('#pase-player').scrollIntoView() }"
# what Gradio takes as `css` reaches its inner part only
_FRAME = (
    "@media (max-width: 600px) { .gradio-container { padding: 0 !important; } .main.app { padding: 6px !important; } }"
)
_KEPT = 3600  # seconds after which uploads and what was read of them are gone


class Page:
    """What the page does, without how it looks.

    Args:
        run: run folder, or a folder with a saved model.
        max_seconds: longest clip.
    """

    def __init__(self, run: str | Path, max_seconds: float) -> None:
        self.home = Path(run)
        self.max_seconds = max_seconds
        self.predictor = ClipPredictor(run)
        folder = self.home / "examples"
        self.examples = sorted(p.resolve() for p in folder.glob("*") if p.suffix in MEDIA) if folder.is_dir() else []
        self.written = tempfile.TemporaryDirectory(prefix="pase_page_")

    def close(self) -> None:
        """Remove what was written."""
        self.written.cleanup()

    @property
    def card(self) -> str:
        """The model card, or what is known without one."""
        for place in (self.home / "model" / "README.md", self.home / "README.md"):
            if place.is_file():
                return place.read_text(encoding="utf-8")
        return f"A model that reads {', '.join(self.predictor.modalities)}. It has no model card."

    def made(self) -> str:
        """The lines of the card in bold: what is real and what is made."""
        lines = [line.removeprefix("- ") for line in self.card.split("\n- ") if line.startswith("**")][:3]
        return "\n\n".join(" ".join(line.split()) for line in lines)

    def read(
        self, path: str | None, text: str | None, kept: list[str], progress: Callable[..., Any]
    ) -> tuple[str, list[Clip], str]:
        """Player, utterances and answer of a new clip."""
        if not path and not (text and text.strip()):
            return "", [], render.message("There is no clip yet; upload or record one, or write a text.")
        shown = ""
        try:
            if path:
                info = probe(path) if Path(path).suffix.lower() != ".txt" else None
                if info is not None and info.duration > self.max_seconds:
                    raise PaSEError(
                        f"The clip is {info.duration:.0f} s long, and this page takes {self.max_seconds:g} s at most; "
                        "cut it."
                    )
                shown = "" if info is None else render.player(path, video=info.video)
            clips = self.predictor.extract(
                path or None, text or None, progress=lambda done, of: progress((done, of), desc="Reading the clip")
            )
        except PaSEError as error:
            return "", [], render.message(_short(error, path))
        return shown, clips, self.answer(clips, kept)

    def answer(self, clips: list[Clip], kept: list[str]) -> str:
        """The answer from the modalities that are kept."""
        if not clips:
            return _EMPTY
        without = [name for name in self.predictor.modalities if name not in kept]
        try:
            said = self.predictor.answer(clips, without=without, name="The clip")
        except PaSEError as error:
            return render.message(str(error))
        return render.render(said, self.predictor.predictor.model.task)

    def many(self, paths: list[str] | None, progress: Callable[..., Any]) -> tuple[list[list[Any]], str | None]:
        """A line an utterance of several clips, and the CSV of it."""
        rows: list[dict[str, Any]] = []
        for number, path in enumerate(paths or []):
            progress((number, len(paths or [])), desc=f"Reading {Path(path).name}")
            try:
                if Path(path).suffix.lower() != ".txt" and probe(path).duration > self.max_seconds:
                    raise PaSEError(f"The clip is longer than {self.max_seconds:g} s.")
                said = self.predictor.predict(path, words=False)
                rows += as_rows(said)
            except PaSEError as error:
                rows.append({"clip": Path(path).name, "text": _short(error, path)})
        if not rows:
            return [], None
        columns = self.columns()
        target = Path(tempfile.mkdtemp(dir=self.written.name)) / "answers.csv"
        with target.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        return [[_cell(row.get(name)) for name in columns] for row in rows], str(target)

    def columns(self) -> list[str]:
        """Of the table of several clips."""
        said = "score" if self.predictor.predictor.model.task.values is not None else "label"
        shares = [f"contribution_{name}" for name in self.predictor.modalities]
        return ["clip", "start", "end", said, "confidence", *shares, "text"]


def _cell(value: Any) -> Any:
    return "" if value is None else round(value, 3) if isinstance(value, float) else value


def _short(error: PaSEError, path: str | None) -> str:
    """The sentence without the server's folders."""
    return str(error).replace(str(path), Path(path).name) if path else str(error)


def build(page: Page) -> gr.Blocks:
    """The components and what they call."""
    names = list(page.predictor.modalities)
    media = sorted(MEDIA)
    blocks: gr.Blocks
    with gr.Blocks(title="PaSE", analytics_enabled=False, delete_cache=(_KEPT, _KEPT)) as blocks:
        gr.HTML(
            '<div class="pase-head"><h1>PaSE</h1><p>What is felt in a clip, which words and modalities say so, and how '
            "sure that is.</p></div>"
        )
        if made := page.made():
            gr.Markdown(made, elem_id="pase-made")
        with gr.Tab("One clip"), gr.Row():
            clips = gr.State([], time_to_live=_KEPT)
            with gr.Column(scale=5, min_width=260):
                with gr.Tab("Video"):
                    video = gr.Video(
                        sources=["upload", "webcam"],
                        include_audio=True,
                        show_label=False,
                        height=280,
                        elem_id="pase-video",
                    )
                    video_go = gr.Button("Answer this video", variant="primary", elem_id="pase-go-video")
                with gr.Tab("Sound"):
                    sound = gr.Audio(sources=["upload", "microphone"], type="filepath", show_label=False)
                    sound_go = gr.Button("Answer this sound", variant="primary")
                with gr.Tab("Text alone"):
                    alone = gr.Textbox(label="Text", lines=4, elem_id="pase-text")
                    alone_go = gr.Button("Answer this text", variant="primary", elem_id="pase-go-text")
                with gr.Accordion("I have the transcript", open=False):
                    transcript = gr.Textbox(label="It is aligned to the sound; recognised if left empty", lines=3)
                offered: list[gr.Button] = []
                if page.examples:
                    gr.Markdown("**Examples**")
                    with gr.Row(elem_id="pase-examples"):
                        offered = [gr.Button(p.stem.replace("_", " "), size="sm", min_width=80) for p in page.examples]
            with gr.Column(scale=7, min_width=260):
                shown = gr.HTML(elem_id="pase-player")
                kept = gr.CheckboxGroup(names, value=names, label="What the model may use", elem_id="pase-kept")
                answer = gr.HTML(_EMPTY, elem_id="pase-answer")

            def read(path: Any, text: str, kept: list[str], progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
                return page.read(path, text, kept, progress)

            def example(number: int) -> Callable[..., Any]:
                def run(kept: list[str], progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
                    return page.read(str(page.examples[number]), "", kept, progress)

                return run

            results: list[Any] = [shown, clips, answer]
            one: dict[str, Any] = {"concurrency_id": "clips", "concurrency_limit": 1, "show_progress_on": answer}
            one["api_visibility"] = "private"
            nothing = gr.State(None)
            started = [
                video_go.click(read, [video, transcript, kept], results, **one),
                sound_go.click(read, [sound, transcript, kept], results, **one),
                alone_go.click(read, [nothing, alone, kept], results, **one),
            ]
            for number, button in enumerate(offered):
                started.append(button.click(example(number), [kept], results, **one))
            for event in started:  # on a phone the answer stands below what was pressed
                event.then(None, js=_SCROLL)
            kept.change(page.answer, [clips, kept], [answer], api_visibility="private", show_progress="hidden")
        with gr.Tab("Several clips"):
            gr.Markdown("One line an utterance; clips of more than 30 s are cut at pauses.")
            chosen = gr.File(file_count="multiple", file_types=[*media, ".txt"], show_label=False)
            many_go = gr.Button("Answer these clips", variant="primary", elem_id="pase-go-many")
            columns = page.columns()
            # wide enough for the names, which would otherwise break within a word
            widths: list[str | int] = [_WIDTHS.get(name, f"{max(82, 9 * len(name) + 30)}px") for name in columns]
            table = gr.Dataframe(headers=columns, column_widths=widths, interactive=False, wrap=True, show_label=False)
            download = gr.DownloadButton("Download as CSV", interactive=False, elem_id="pase-csv")

            def many(paths: list[str] | None, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
                rows, target = page.many(paths, progress)
                return rows, gr.DownloadButton(value=target, interactive=target is not None)

            many_go.click(
                many, [chosen], [table, download], concurrency_id="clips", concurrency_limit=1, api_visibility="private"
            )
        with gr.Tab("About the model"):
            gr.Markdown(page.card)
            gr.Markdown(
                "Clips are read on the machine that runs this page and are sent nowhere else; uploads are deleted "
                "after an hour. Colours and bars describe the model, not the person."
            )
    blocks.queue(max_size=16)
    return blocks


def _text(home: Any, name: str) -> str:
    return str(home.joinpath(name).read_text(encoding="utf-8"))


def launch(
    run: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_seconds: float = 600.0,
    max_megabytes: int = 200,
) -> None:
    """Serve the page until it is stopped."""
    page = Page(run, max_seconds)
    blocks = build(page)
    home = files("pase_msa.serve")
    fonts = ["system-ui", "sans-serif"]  # of the reader's own machine: nothing is fetched from elsewhere
    blocks.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        allowed_paths=[str(page.home.resolve() / "examples")] if page.examples else [],
        max_file_size=f"{max_megabytes}mb",
        state_session_capacity=64,
        footer_links=[],
        ssr_mode=False,
        theme=gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"], primary_hue="blue"),
        css=_text(home, "page.css"),
        head=f"<style>{_FRAME}</style><script>{_text(home, 'page.js')}</script>",
    )
    print(f"the page is at http://{host}:{blocks.server_port} (Ctrl+C stops it)", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that what was written is removed then, too
    try:
        blocks.block_thread()
    finally:
        page.close()
