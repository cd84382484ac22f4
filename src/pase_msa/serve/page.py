"""The page: a clip goes in, the result stands beside it; modalities can be masked; several clips become a table."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from pase_msa.errors import PaSEError
from pase_msa.media.languages import AUTO, language_names
from pase_msa.media.manifest import MEDIA
from pase_msa.serve import page_parts, render
from pase_msa.serve.clips import ClipPredictor
from pase_msa.serve.desk import KEEP, Desk, Source, Ticket
from pase_msa.serve.live_room import LiveRoom

EMPTY = '<div class="pase-empty">Upload or record a clip, or take an example. The result appears here.</div>'
_SCROLL = "() => { innerWidth < 700 && document.querySelector('#pase-player').scrollIntoView() }"
_REMEMBER = "(ticket) => pase.remember(ticket)"
_RECALL = "() => pase.recall()"
_LOOK = 0.15  # seconds between two looks at how far a recording is
_PRIVACY = (
    "Clips and live sound are read on the machine that runs this page and are sent nowhere else. A file is deleted as "
    "soon as it has been read; the answer, and the clip to play with it, stay in memory for an hour at most, under an "
    "address that only you have. Live sound is not kept. Colours and bars describe the model, not the person."
)
_GONE = "This answer is no longer kept; choose the clip again."
_EVENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# who follows a ticket only looks at it, so many may at the same time
_FOLLOW: dict[str, Any] = {**_EVENT, "concurrency_limit": 64}


class Page:
    """What the page does, without how it looks.

    Args:
        run: run folder, or a folder with a saved model.
        max_seconds: longest clip.
        root: address under which `pase_msa.serve.page_server` serves recordings and answers.
        modalities: to read; all that the model reads if None.
    """

    def __init__(
        self, run: str | Path, max_seconds: float, root: str = "/pase", modalities: Sequence[str] | None = None
    ) -> None:
        self.root, self.address = Path(run), root
        self.predictor = ClipPredictor(run, modalities=modalities)
        self.desk = Desk(self.predictor, max_seconds)
        self.room = LiveRoom(self.predictor)
        folder = self.root / "examples"
        self.examples = sorted(p.resolve() for p in folder.glob("*") if p.suffix in MEDIA) if folder.is_dir() else []

    def close(self) -> None:
        """End the work, and forget all answers."""
        self.room.close()
        self.desk.close()

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

    def hand_in(self, kind: str, source: Source, used: Sequence[str], last: str = "") -> Ticket:
        """Put one recording into the line.

        Args:
            kind: of input that it came from.
            source: the recording; with neither file nor text, that of the last ticket is read again.
            used: modalities that are not masked.
            last: ticket before.

        Errors:
            PaSEError: there is no recording, or too many wait.
        """
        if source.path is None and kind != "text":
            before = self.desk.find(last)
            if before is None or before.kind != kind:
                raise PaSEError("There is no clip yet; upload or record one, or write a text.")
            reading = before.readings[0]
            if reading.media is None:
                raise PaSEError(f"{reading.name} is no longer kept; choose the file again.")
            source = replace(source, media=reading.media, name=reading.name)
        if source.path is None and source.media is None and not (source.text or "").strip():
            raise PaSEError("There is no text yet; write one.")
        self.predictor.check_masked(self.masked(used))
        return self.desk.hand_in(kind, [source], without=self.masked(used), words=True)

    def masked(self, used: Sequence[str]) -> list[str]:
        """The modalities that are not used."""
        return [name for name in self.predictor.modalities if name not in used]

    def show(self, id: str | None) -> tuple[str, str]:
        """The player and the result of a ticket of one recording, or how far it is."""
        if not id:
            return "", EMPTY
        ticket = self.desk.find(id)
        if ticket is None:
            return "", render.message(_GONE)
        reading = ticket.readings[0]
        player = ""
        if reading.media is not None:
            player = render.player(f"{self.address}/clip/{ticket.id}", video=bool(reading.video))
        if not ticket.done and reading.result is None:
            return player, page_parts.progress(ticket)
        if reading.sentence or reading.result is None:
            return player, render.message(reading.sentence)
        bar = "" if ticket.done else page_parts.progress(ticket)
        html = render.render_html(reading.result, self.predictor.predictor.model.task)
        return player, bar + html + page_parts.downloads(ticket, 0, self.address)

    def show_several(self, id: str | None) -> str:
        """The table of a ticket of several recordings, and how far it is."""
        if not id:
            return ""
        ticket = self.desk.find(id)
        if ticket is None:
            return render.message(_GONE)
        bar = "" if ticket.done else page_parts.progress(ticket)
        return bar + page_parts.several(ticket, self.predictor.predictor.model.task, self.address)

    async def follow(self, id: str | None, show: Callable[[str | None], Any]) -> AsyncIterator[Any]:
        """What `show` gives for a ticket, whenever that changes, until the ticket is done."""
        before = None
        while True:
            ticket = self.desk.find(id)
            ended = ticket is None or ticket.done  # asked first, so that the last look is at the end
            now = show(id)
            if now != before:
                yield now
            if ended:
                return
            before = now
            await asyncio.sleep(_LOOK)


def build(page: Page) -> gr.Blocks:
    """The components and the functions that they call."""
    blocks: gr.Blocks
    with gr.Blocks(title="PaSE", analytics_enabled=False, delete_cache=(int(KEEP), int(KEEP))) as blocks:
        gr.HTML(
            '<div class="pase-head"><h1>PaSE</h1><p>The sentiment of a clip, the words and modalities that it rests '
            "on, and the confidence in it.</p></div>"
        )
        if provenance := page.provenance():
            gr.Markdown(provenance, elem_id="pase-provenance")
        with gr.Tabs() as tabs:
            with gr.Tab("One clip", id="one"), gr.Row():
                one, used, look = _one_clip(page)
            with gr.Tab("Several clips", id="several"):
                several, look_at_several = _several_clips(page)
            with gr.Tab("Live", id="live"):
                gr.HTML(page_parts.live())
            with gr.Tab("About"):
                gr.Markdown(page.card)
                gr.Markdown(_PRIVACY)

        def resume(id: str) -> Any:
            """The ticket in the address of the page, to the tab that it belongs to."""
            ticket = page.desk.find(id)
            if ticket is not None and ticket.kind == "several":
                return "", id, gr.update(), gr.update(selected="several")
            names = [name for name in page.predictor.modalities if ticket is None or name not in ticket.without]
            return id, "", gr.update(value=names), gr.update()

        recalled = gr.Textbox(visible=False)
        event = blocks.load(resume, [recalled], [one, several, used, tabs], js=_RECALL, **_EVENT)
        look(event)
        look_at_several(event)
    blocks.queue(max_size=64)
    return blocks


def _one_clip(page: Page) -> tuple[gr.Textbox, gr.CheckboxGroup, Callable[[Any], Any]]:
    """Inputs to the left, the result to the right.

    A clip that is read moves from its input to the player beside the result, so that it stands on the page once. The
    button reads it again, for example with a transcript, as long as its input is empty.

    Returns:
        The ticket, the modalities that are used, and what makes an event show the ticket.
    """
    with gr.Column(scale=5, min_width=260):
        video, video_go, sound, sound_go, text, text_go = _inputs()
        with gr.Accordion("Transcript, speakers, language", open=False):
            transcript = gr.Textbox(label="Transcript: aligned to the sound; recognised if left empty", lines=3)
            speakers, language = _speakers(), _language()
        example_buttons = _examples(page)
    with gr.Column(scale=7, min_width=260):
        names = list(page.predictor.modalities)
        player = gr.HTML(elem_id="pase-player")
        used = gr.CheckboxGroup(
            names, value=names, label="Modalities that the model uses (clear one to mask it)", elem_id="pase-modalities"
        )
        result = gr.HTML(EMPTY, elem_id="pase-result")
    ticket = gr.Textbox(visible=False)

    def reader(kind: str, example: str | None = None) -> Callable[..., Any]:
        def read(
            given: str | None, text: str, speakers: str | None, language: str | None, used: list[str], last: str
        ) -> Any:
            try:
                source = Source(Path(example), upload=False) if example else _upload(given, text)
                source.speakers, source.language = speakers or None, language or None
                new = page.hand_in(kind, source, used, last)
            except PaSEError as error:
                return gr.update(), gr.update(), render.message(str(error)), gr.update(), gr.update()
            return new.id, "", page_parts.progress(new), None, None

        return read

    async def follow(id: str) -> AsyncIterator[Any]:
        async for shown in page.follow(id, page.show):
            yield shown

    def mask(id: str, used: list[str]) -> Any:
        found = page.desk.find(id)
        try:
            if found is not None:
                page.desk.mask(found, page.masked(used))
        except PaSEError as error:
            return render.message(str(error))
        return gr.update()

    def look(event: Any) -> Any:
        return event.then(follow, [ticket], [player, result], **_FOLLOW)

    nothing = gr.State(None)
    buttons = [
        (video_go, reader("video"), video, transcript),
        (sound_go, reader("sound"), sound, transcript),
        (text_go, reader("text"), nothing, text),
        *((button, reader("example", str(path)), nothing, transcript) for button, path in example_buttons),
    ]
    for button, read, source, words in buttons:
        event = button.click(
            read, [source, words, speakers, language, used, ticket], [ticket, player, result, video, sound], **_EVENT
        )
        event.success(None, [ticket], js=_REMEMBER).then(None, js=_SCROLL)  # on a phone it stands below the button
        look(event)
    look(used.input(mask, [ticket, used], [result], **_EVENT))
    return ticket, used, look


def _inputs() -> tuple[gr.Video, gr.Button, gr.Audio, gr.Button, gr.Textbox, gr.Button]:
    """A tab per kind of clip, each with its button."""
    with gr.Tab("Video"):
        video = gr.Video(
            sources=["upload", "webcam"],
            include_audio=True,
            show_label=False,
            height=280,
            buttons=[],  # one would send the clip to a public server
            elem_id="pase-video",
        )
        video_go = gr.Button("Predict this video", variant="primary", elem_id="pase-go-video")
    with gr.Tab("Sound"):
        sound = gr.Audio(
            sources=["upload", "microphone"], type="filepath", show_label=False, buttons=[], elem_id="pase-sound"
        )
        sound_go = gr.Button("Predict this sound", variant="primary", elem_id="pase-go-sound")
    with gr.Tab("Text alone"):
        text = gr.Textbox(label="Text", lines=4, elem_id="pase-text")
        text_go = gr.Button("Predict this text", variant="primary", elem_id="pase-go-text")
    return video, video_go, sound, sound_go, text, text_go


def _speakers() -> gr.Radio:
    """Whether speakers are told apart, and how."""
    choices = [("not told apart", ""), ("by voice", "auto"), *((f"{n} voices", str(n)) for n in range(2, 5))]
    return gr.Radio(
        [*choices, ("one per channel", "channels")], value="", label="Speakers", elem_classes="pase-speakers"
    )


def _language() -> gr.Dropdown:
    """The language of the words."""
    names = sorted((name, code) for code, name in language_names().items())
    choices = [("that of the training", ""), ("told from the recording", AUTO), *names]
    return gr.Dropdown(choices, value="", label="Language of the words", elem_classes="pase-language")


def _examples(page: Page) -> list[tuple[gr.Button, Path]]:
    """A button per example clip."""
    if not page.examples:
        return []
    gr.Markdown("**Examples**")
    with gr.Row(elem_id="pase-examples"):
        return [
            (gr.Button(path.stem.replace("_", " "), size="sm", min_width=80), path.resolve()) for path in page.examples
        ]


def _upload(path: str | None, text: str | None = None) -> Source:
    """What came by an input of Gradio, which wrote it below its own folder."""
    if path is None:
        return Source(None, text)
    if not Path(path).resolve().is_relative_to(Path(os.environ["GRADIO_TEMP_DIR"]).resolve()):
        raise PaSEError("A clip must be uploaded or recorded; choose a file.")
    return Source(Path(path), text)


def _several_clips(page: Page) -> tuple[gr.Textbox, Callable[[Any], Any]]:
    """Files become a table that can be downloaded; returns the ticket, and what makes an event show it."""
    gr.Markdown("One row per utterance; clips of more than 30 s are cut at pauses.")
    chosen = gr.File(file_count="multiple", file_types=[*sorted(MEDIA), ".txt"], show_label=False, elem_id="pase-files")
    speakers, language = _speakers(), _language()
    go = gr.Button("Predict these clips", variant="primary", elem_id="pase-go-many")
    table = gr.HTML(elem_id="pase-several")
    ticket = gr.Textbox(visible=False)

    def read(paths: list[str] | None, speakers: str | None, language: str | None) -> Any:
        try:
            uploads = map(_upload, paths or [])
            sources = [replace(item, speakers=speakers or None, language=language or None) for item in uploads]
            if not sources:
                raise PaSEError("There are no clips yet; choose some files.")
            new = page.desk.hand_in("several", sources, without=(), words=False)
        except PaSEError as error:
            return gr.update(), render.message(str(error)), gr.update()
        return new.id, page_parts.progress(new), None

    async def follow(id: str) -> AsyncIterator[str]:
        async for shown in page.follow(id, page.show_several):
            yield shown

    def look(event: Any) -> Any:
        return event.then(follow, [ticket], [table], **_FOLLOW)

    event = go.click(read, [chosen, speakers, language], [ticket, table, chosen], **_EVENT)
    event.success(None, [ticket], js=_REMEMBER)
    look(event)
    return ticket, look


def _without_front_matter(card: str) -> str:
    """A card without its YAML, which is for machines."""
    return card.partition("\n---\n")[2].lstrip() if card.startswith("---\n") else card
