"""Tutorials are notebooks: a page for each, and a command that executes them and keeps their outputs.

python docs/hooks/notebooks.py [FILE ...]      # executes the notebooks in a fresh folder and stores what they print
"""

from __future__ import annotations

import base64
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

TUTORIALS = Path(__file__).parents[1] / "tutorials"


def on_files(files: Any, config: Any) -> Any:
    """Add a page for every notebook."""
    from mkdocs.structure.files import File

    for notebook in sorted(TUTORIALS.glob("*.ipynb")):
        name = f"tutorials/{notebook.stem}"
        text, pictures = as_markdown(json.loads(notebook.read_text()), notebook.stem)
        text += f'\n\n<a href="{notebook.name}" download>This page as a notebook</a>\n'
        files.append(File.generated(config, f"{name}.md", content=text))
        for picture, content in pictures.items():
            files.append(File.generated(config, f"tutorials/{picture}", content=content))
    return files


def as_markdown(notebook: dict[str, Any], stem: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and the pictures that it refers to, by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        shell = source.startswith("!")
        parts.append(f"```{'bash' if shell else 'python'}\n{re.sub('^!', '', source, flags=re.M)}\n```")
        printed = ""
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![output of the cell above]({name})")
            else:
                printed += "".join(output.get("text", data.get("text/plain", "")))
        if printed.strip():
            parts.append(f"```text\n{printed.rstrip()}\n```")
    return "\n\n".join(parts), pictures


def execute(notebook: Path, store: bool) -> None:
    """Execute a notebook in a fresh folder.

    Args:
        notebook: file.
        store: keep the outputs in the file.
    """
    import nbformat
    from nbclient import NotebookClient

    content = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(content, timeout=300, resources={"metadata": {"path": folder}}).execute()
    if store:
        for cell in content.cells:
            cell.metadata = {}  # times of execution would differ from one call to the next
            if cell.cell_type == "code":  # warnings name paths of this machine
                cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        nbformat.write(content, notebook)


if __name__ == "__main__":
    for file in [Path(name) for name in sys.argv[1:]] or sorted(TUTORIALS.glob("*.ipynb")):
        execute(file, store=True)
