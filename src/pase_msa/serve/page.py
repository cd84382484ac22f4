"""The page: a clip goes in, the result stands beside it; modalities can be masked; several clips become a CSV."""

from __future__ import annotations

import contextlib
import csv
import os
import tempfile
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from pase_msa.errors import PaSEError
from pase_msa.media.clip import Clip
from pase_msa.media.decode import probe
from pase_msa.media.manifest import MEDIA
from pase_msa.serve import render
from pase_msa.serve.clips import ClipPredictor
from pase_msa.serve.hosts import HostCheck, allowed_hosts
from pase_msa.serve.temporary import temporary_files
from pase_msa.serve.units import flat_rows, units_of

_WIDTHS = {"clip": "230px", "text": "420px"}
_EMPTY = '<div class="pase-empty">Upload or record a clip, or take an example. The result appears here.</div>'
_SCROLL = "() => { innerWidth < 700 && document.querySelector('#pase-player').scrollIntoView() }"
# what Gradio takes as `css` reaches its inner part only
_FRAME = (
    "@media (max-width: 600px) { .gradio-container { padding: 0 !important; } .main.app { padding: 6px !important; } }"
)
_KEEP = 3600  # seconds after which uploads and what was extracted from them are deleted
# one clip is read at a time, whichever button was pressed
_ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "clips", "concurrency_limit": 1, "api_visibility": "private"}


class Page:
    """What the page does, without how it looks.

    Args:
        run: run folder, or a folder with a saved model.
        max_seconds: longest clip.
        modalities: to read; all that the model reads if None.
    """

    def __init__(self, run: str | Path, max_seconds: float, modalities: Sequence[str] | None = None) -> None:
        self.root = Path(run)
        self.max_seconds = max_seconds
        self.predictor = ClipPredictor(run, modalities=modalities)
        folder = self.root / "examples"
        self.examples = sorted(p.resolve() for p in folder.glob("*") if p.suffix in MEDIA) if folder.is_dir() else []
        self.written = tempfile.TemporaryDirectory(prefix="pase_page_")

    def close(self) -> None:
        """Remove the files that were written for download."""
        self.written.cleanup()

    @property
    def card(self) -> str:
        """The model card, or a sentence where there is none."""
        for place in (self.root / "model" / "README.md", self.root / "README.md"):
            if place.is_file():
                return _without_front_matter(place.read_text(encoding="utf-8"))
        return f"A model that reads {', '.join(self.predictor.modalities)}. It has no model card."

    def provenance(self) -> str:
        """The lines of the card in bold, which state what data the model was made of."""
        items = self.card.partition("\n## The law")[0].split("\n- ")
        lines = [item.partition("\n\n")[0] for item in items if item.startswith("**")][:3]
        if self.predictor.unread:
            used, unread = ", ".join(self.predictor.modalities), ", ".join(self.predictor.unread)
            lines.insert(0, f"**This page reads {used} only.** Nothing is made of {unread}.")
        return "\n\n".join(" ".join(line.split()) for line in lines)

    def read(
        self, path: str | None, text: str | None, modalities: Sequence[str], progress: Callable[..., Any]
    ) -> tuple[str, list[Clip], str]:
        """Extract and predict a clip: its player, its utterances and the result; no utterances where it fails."""
        if not path and not (text and text.strip()):
            return "", [], render.message("There is no clip yet; upload or record one, or write a text.")
        player = ""
        try:
            if path:
                info = probe(path) if Path(path).suffix.lower() != ".txt" else None
                if info is not None and info.duration > self.max_seconds:
                    raise PaSEError(
                        f"The clip is {info.duration:.0f} s long, and this page takes {self.max_seconds:g} s at most; "
                        "cut it."
                    )
                player = "" if info is None else render.player(path, video=info.video)
            clips = self.predictor.extract(
                path or None, text or None, progress=lambda done, of: progress((done, of), desc="Reading the clip")
            )
        except PaSEError as error:
            return "", [], render.message(_without_folders(error, path))
        return player, clips, self.predict(clips, modalities)

    def predict(self, clips: list[Clip], modalities: Sequence[str]) -> str:
        """The result from some modalities; the others are masked."""
        if not clips:
            return _EMPTY
        without = [name for name in self.predictor.modalities if name not in modalities]
        try:
            result = self.predictor.predict_utterances(clips, without=without)
        except PaSEError as error:
            return render.message(str(error))
        return render.render_html(result, self.predictor.predictor.model.task)

    def many(self, paths: list[str] | None, progress: Callable[..., Any]) -> tuple[list[list[Any]], str | None]:
        """One row per utterance of several clips, and the same as a CSV file; a clip that fails has a sentence."""
        rows: list[dict[str, Any]] = []
        for number, path in enumerate(paths or []):
            progress((number, len(paths or [])), desc=f"Reading {Path(path).name}")
            try:
                if Path(path).suffix.lower() != ".txt" and probe(path).duration > self.max_seconds:
                    raise PaSEError(f"The clip is longer than {self.max_seconds:g} s; cut it.")
                result = self.predictor.predict(path, words=False)
                rows += flat_rows(result.name, units_of(result, "utterance"))
            except PaSEError as error:
                rows.append({"clip": Path(path).name, "text": _without_folders(error, path)})
        if not rows:
            return [], None
        columns = self.columns()
        target = Path(tempfile.mkdtemp(dir=self.written.name)) / "results.csv"
        with target.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        return [[_cell(row.get(name)) for name in columns] for row in rows], str(target)

    def columns(self) -> list[str]:
        """Of the table of several clips."""
        predicted = "score" if self.predictor.predictor.model.task.values is not None else "label"
        contributions = [f"contribution_{name}" for name in self.predictor.modalities]
        return ["clip", "start", "end", predicted, "confidence", *contributions, "text"]


def _without_front_matter(card: str) -> str:
    """A card without its YAML, which is for machines."""
    return card.partition("\n---\n")[2].lstrip() if card.startswith("---\n") else card


def _cell(value: Any) -> Any:
    return "" if value is None else round(value, 3) if isinstance(value, float) else value


def _without_folders(error: PaSEError, path: str | None) -> str:
    """The sentence without the server's folders."""
    return str(error).replace(str(path), Path(path).name) if path else str(error)


def build(page: Page) -> gr.Blocks:
    """The components and the functions that they call."""
    blocks: gr.Blocks
    with gr.Blocks(title="PaSE", analytics_enabled=False, delete_cache=(_KEEP, _KEEP)) as blocks:
        gr.HTML(
            '<div class="pase-head"><h1>PaSE</h1><p>The sentiment of a clip, the words and modalities that it rests '
            "on, and the confidence in it.</p></div>"
        )
        if provenance := page.provenance():
            gr.Markdown(provenance, elem_id="pase-provenance")
        with gr.Tab("One clip"), gr.Row():
            _one_clip(page)
        with gr.Tab("Several clips"):
            _several_clips(page)
        with gr.Tab("About the model"):
            gr.Markdown(page.card)
            gr.Markdown(
                "Clips are read on the machine that runs this page and are sent nowhere else; uploads are deleted "
                "after an hour, and when the page is stopped. Colours and bars describe the model, not the person."
            )
    blocks.queue(max_size=16)
    return blocks


def _one_clip(page: Page) -> None:
    """Inputs to the left, the result to the right.

    A clip that was read moves from its input to the player beside the result, so that it stands on the page once. The
    button reads it again, for example with a transcript, as long as its input is empty.
    """
    with gr.Column(scale=5, min_width=260):
        video, video_go, sound, sound_go, text, text_go = _inputs()
        with gr.Accordion("I have the transcript", open=False):
            transcript = gr.Textbox(label="It is aligned to the sound; recognised if left empty", lines=3)
        example_buttons = _examples(page)
    with gr.Column(scale=7, min_width=260):
        names = list(page.predictor.modalities)
        player = gr.HTML(elem_id="pase-player")
        used = gr.CheckboxGroup(
            names, value=names, label="Modalities that the model uses (clear one to mask it)", elem_id="pase-modalities"
        )
        result = gr.HTML(_EMPTY, elem_id="pase-result")
    clips, last = gr.State([], time_to_live=_KEEP), gr.State({}, time_to_live=_KEEP)

    def reader(kind: str, example: str | None = None) -> Callable[..., Any]:
        def read(
            given: str | None,
            text: str,
            used: list[str],
            last: dict[str, str],
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> Any:
            path = example or given or last.get(kind)
            player, utterances, html = page.read(path, "" if example else text, used, progress)
            if not utterances:  # the clip stays in its input, where it can be replaced
                return player, utterances, html, gr.update(), gr.update(), last
            return player, utterances, html, None, None, {kind: path} if path else {}

        return read

    outputs: list[Any] = [player, clips, result, video, sound, last]
    nothing = gr.State(None)
    buttons = [
        (video_go, reader("video"), video, transcript),
        (sound_go, reader("sound"), sound, transcript),
        (text_go, reader("text"), nothing, text),
        *((button, reader("example", str(path)), nothing, transcript) for button, path in example_buttons),
    ]
    for button, read, source, words in buttons:
        event = button.click(read, [source, words, used, last], outputs, show_progress_on=result, **_ONE_AT_A_TIME)
        event.then(None, js=_SCROLL)  # on a phone the result stands below the button
    used.change(page.predict, [clips, used], [result], api_visibility="private", show_progress="hidden")


def _inputs() -> tuple[gr.Video, gr.Button, gr.Audio, gr.Button, gr.Textbox, gr.Button]:
    """A tab per kind of clip, each with its button."""
    with gr.Tab("Video"):
        video = gr.Video(
            sources=["upload", "webcam"], include_audio=True, show_label=False, height=280, elem_id="pase-video"
        )
        video_go = gr.Button("Predict this video", variant="primary", elem_id="pase-go-video")
    with gr.Tab("Sound"):
        sound = gr.Audio(sources=["upload", "microphone"], type="filepath", show_label=False)
        sound_go = gr.Button("Predict this sound", variant="primary")
    with gr.Tab("Text alone"):
        text = gr.Textbox(label="Text", lines=4, elem_id="pase-text")
        text_go = gr.Button("Predict this text", variant="primary", elem_id="pase-go-text")
    return video, video_go, sound, sound_go, text, text_go


def _examples(page: Page) -> list[tuple[gr.Button, Path]]:
    """A button per example clip."""
    if not page.examples:
        return []
    gr.Markdown("**Examples**")
    with gr.Row(elem_id="pase-examples"):
        return [
            (gr.Button(path.stem.replace("_", " "), size="sm", min_width=80), path.resolve()) for path in page.examples
        ]


def _several_clips(page: Page) -> None:
    """Files become a table and a CSV."""
    gr.Markdown("One row per utterance; clips of more than 30 s are cut at pauses.")
    chosen = gr.File(file_count="multiple", file_types=[*sorted(MEDIA), ".txt"], show_label=False)
    go = gr.Button("Predict these clips", variant="primary", elem_id="pase-go-many")
    columns = page.columns()
    # wide enough for the names, which would otherwise break within a word
    widths: list[str | int] = [_WIDTHS.get(name, f"{max(82, 9 * len(name) + 30)}px") for name in columns]
    table = gr.Dataframe(headers=columns, column_widths=widths, interactive=False, wrap=True, show_label=False)
    download = gr.DownloadButton("Download as CSV", interactive=False, elem_id="pase-csv")

    def many(paths: list[str] | None, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
        rows, target = page.many(paths, progress)
        return rows, gr.DownloadButton(value=target, interactive=target is not None)

    go.click(many, [chosen], [table, download], **_ONE_AT_A_TIME)


def _text(root: Any, name: str) -> str:
    return str(root.joinpath(name).read_text(encoding="utf-8"))


def launch(
    run: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_seconds: float = 600.0,
    max_megabytes: int = 200,
    further_hosts: Sequence[str] = (),
    modalities: Sequence[str] | None = None,
) -> None:
    """Serve the page until it is stopped.

    Args:
        run: run folder, or a folder with a saved model.
        host: address to listen on.
        port: to listen on.
        max_seconds: longest clip.
        max_megabytes: largest upload.
        further_hosts: names by which the page is reached, beside this machine's own.
        modalities: to read; all that the model reads if None.

    Errors:
        PaSEError: there is no model, it does not read the modalities, or a name is none.
    """
    hosts = allowed_hosts(host, further_hosts)
    root = files("pase_msa.serve")
    fonts = ["system-ui", "sans-serif"]  # of the reader's own machine: nothing is fetched from elsewhere
    with temporary_files() as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "uploads")  # read when components are made
        page = Page(run, max_seconds, modalities)
        blocks = build(page)
        try:
            blocks.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                allowed_paths=[str(page.root.resolve() / "examples")] if page.examples else [],
                max_file_size=f"{max_megabytes}mb",
                state_session_capacity=64,
                footer_links=[],
                ssr_mode=False,
                theme=gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"], primary_hue="blue"),
                css=_text(root, "page.css"),
                head=f"<style>{_FRAME}</style><script>{_text(root, 'page.js')}</script>",
                app_kwargs={"middleware": [Middleware(HostCheck, allowed_hosts=hosts, www_redirect=False)]},
            )
            print(f"the page is at http://{host}:{blocks.server_port} (Ctrl+C stops it)", flush=True)
            blocks.block_thread()
        finally:
            with contextlib.suppress(Exception):  # it has not started, or has ended already
                blocks.close(verbose=False)  # first, so that no upload is written any more
            page.close()
