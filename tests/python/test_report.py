"""The page of an assessment in a browser: it renders without complaints, in light and dark, on a phone and on paper."""

import html
import json
import re
import shutil
import struct
import subprocess
import xml.etree.ElementTree
import zlib

import pytest
from catalog import MODELS, ROOT

BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed")

# What a reader would see: text beyond the page's side, text too small to read, bars and marks beside their tracks.
LOOK = """
const frame = document.querySelector("iframe");
frame.addEventListener("load", () => {
  const page = frame.contentDocument, root = page.documentElement, wrong = [];
  if (root.scrollWidth > root.clientWidth) wrong.push(`${root.scrollWidth} wide`);
  let count = 0;
  for (const bar of page.querySelectorAll(".bar:not(.key)")) {
    const track = bar.getBoundingClientRect();
    if (track.width < 60 || track.height < 5) wrong.push(`a track of ${track.width} x ${track.height} px`);
    for (const part of bar.children) {
      const box = part.getBoundingClientRect();
      if (box.left < track.left - 3 || box.right > track.right + 3) wrong.push(`outside: ${part.outerHTML}`);
      if (getComputedStyle(part).position != "absolute") wrong.push(`unplaced: ${part.outerHTML}`);
      count += 1;
    }
  }
  for (const text of page.querySelectorAll("h1, h2, h3, p, th, td, li, dd, .pair span")) {
    const box = text.getBoundingClientRect();
    if (box.width > 1 && (box.left < -1 || box.right > root.clientWidth + 1)) wrong.push(`outside: ${text.textContent}`);
    if (parseFloat(getComputedStyle(text).fontSize) < 10) wrong.push(`small: ${text.textContent}`);
  }
  document.body.innerHTML = "";
  document.body.textContent = "LOOKED" + JSON.stringify({count, wrong}) + "LOOKED";
});
"""


@pytest.fixture(scope="module")
def report(tool, tmp_path_factory):
    """A page."""
    folder = tmp_path_factory.mktemp("report")
    data = ["--data", MODELS / "digits_test.csv", "--scale", "16"]
    tool("assess", MODELS / "digits_cnn.onnx", *data, "--report", folder / "page.html")
    return folder


def browse(profile, *arguments):
    """Runs the browser; what the page complains about is an error."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=5000", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    complaints = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints, complaints
    return run.stdout


def first_pixel(path):
    """Red, green and blue of a PNG's corner: no filter of its first row changes the first pixel."""
    png = path.read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed = 8, b""
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        packed += png[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += 12 + size
    return tuple(zlib.decompress(packed)[1:4])


def test_it_is_xml(report):
    xml.etree.ElementTree.parse(report / "page.html")


@needs_browser
@pytest.mark.parametrize("scheme, is_light", [(1, True), (0, False)], ids=["light", "dark"])
def test_schemes(report, tmp_path, scheme, is_light):
    shot = tmp_path / "shot.png"
    page = (report / "page.html").as_uri()
    setting = f"--blink-settings=preferredColorScheme={scheme}"
    browse(tmp_path / "profile", setting, "--window-size=1400,3000", f"--screenshot={shot}", page)
    assert all((value > 200) == is_light and (value < 60) != is_light for value in first_pixel(shot))


@needs_browser
@pytest.mark.parametrize("width", [360, 390, 820, 1280, 1920])
def test_widths(report, tmp_path, width):
    page = html.escape((report / "page.html").read_text())
    wrapper = tmp_path / "wrapper.html"
    frame = f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe>'
    wrapper.write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{frame}<script>{LOOK}</script></body>')
    dom = browse(tmp_path / "profile", "--window-size=2000,1000", "--dump-dom", wrapper.as_uri())
    looked = re.search(r"LOOKED(\{.*\})LOOKED", html.unescape(dom))
    assert looked, dom[-2000:]
    found = json.loads(looked.group(1))
    assert found["count"] > 50
    assert found["wrong"] == []


@needs_browser
def test_paper(report, tmp_path):
    paper = tmp_path / "paper.pdf"
    page = (report / "page.html").as_uri()
    browse(tmp_path / "profile", "--no-pdf-header-footer", f"--print-to-pdf={paper}", page)
    assert paper.read_bytes().startswith(b"%PDF-")
