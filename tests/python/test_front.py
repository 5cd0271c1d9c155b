"""What a reader meets first: the commands of README, the pictures, the index, and links between pages."""

import importlib.util
import os
import re
import subprocess

from catalog import ROOT
from printed import shell

DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *(p for d in ("docs", "crates", "examples", "fixtures", "fuzz") for p in (ROOT / d).rglob("*.md"))]


def test_the_readme_s_commands_run_as_they_are_pasted(tool, tmp_path):
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    (pasted,) = re.findall(r"^## Five commands\n.*?^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.S | re.M)
    command = ["bash", "-e", "-c", pasted]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | shell(tool, tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for said in ("100.0 %", "array([[", "sealed.onnx: ok", "1 model: 1 ok, 0 failed"):
        assert said in done.stdout, done.stdout


def test_the_drawing_is_what_its_script_makes():
    specification = importlib.util.spec_from_file_location("drawing", DOCS / "drawing.py")
    drawing = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(drawing)
    assert drawing.OUT.read_text() == drawing.drawing()


def test_the_index_names_every_page():
    named = set(re.findall(r"\]\((?:\.\./)?([\w./-]+\.md)", (DOCS / "README.md").read_text()))
    assert {page.name for page in DOCS.glob("*.md")} <= named


def anchor(heading):
    """The anchor that GitHub gives a heading."""
    heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def test_links_lead_somewhere():
    wrong = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```$|^    .*$", "", page.read_text(), flags=re.S | re.M)
        for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text):
            target = next(filter(None, target))
            if re.match(r"[a-z]+:", target):
                continue
            path, _, part = target.partition("#")
            file = page.parent / path if path else page
            if not file.exists():
                wrong.append(f"{page}: {target}")
            elif part and file.suffix == ".md":
                headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
                if part not in map(anchor, headings):
                    wrong.append(f"{page}: {target} has no such heading")
    assert wrong == []
