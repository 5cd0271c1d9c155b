"""Draws docs/sealed.svg, the picture of README.md: a protected file, and how it opens.

    python docs/drawing.py

The colours follow the reader's light or dark scheme. `tests/python/test_front.py` compares the file with what this script makes.
"""

from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 800, 540
OUT = Path(__file__).with_name("sealed.svg")

# Each class of the drawing: light, then dark.
COLOURS = {
    "page": ("fill", "#ffffff", "#0d1117"),
    "file": ("fill", "#f6f8fa", "#161b22"),
    "rule": ("stroke", "#c4ccd6", "#3d444d"),
    "strong": ("fill", "#1f2328", "#f0f6fc"),
    "soft": ("fill", "#57606a", "#9aa4b0"),
    "sealed": ("fill", "#b54708", "#f0883e"),
    "clear": ("fill", "#d5dbe3", "#343c47"),
    "open": ("fill", "#ddf4e4", "#12301f"),
    "edge": ("stroke", "#1a7f37", "#3fb950"),
    "line": ("stroke", "#57606a", "#9aa4b0"),
    "head": ("fill", "#57606a", "#9aa4b0"),
}


def style():
    """The colours of both schemes as CSS."""
    light, dark = (
        "".join(f".{name}{{{part[0]}:{part[scheme]}}}" for name, part in COLOURS.items()) for scheme in (1, 2)
    )
    return f"<style>{light}@media (prefers-color-scheme:dark){{{dark}}}</style>"


def text(x, y, words, kind="strong", size=14, weight=400, anchor="start", font=None):
    family = f' font-family="{font}"' if font else ""
    return (
        f'<text class="{kind}" x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}"{family}>{escape(words)}</text>'
    )


def box(x, y, width, height, kind, edge="rule", radius=6):
    return (
        f'<rect class="{kind} {edge}" x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" '
        f'stroke-width="1.5"/>'
    )


def cell(x, y, kind):
    return f'<rect class="{kind}" x="{x}" y="{y}" width="13" height="13" rx="2"/>'


def arrow(*points):
    path = "M" + "L".join(f"{x} {y}" for x, y in points)
    return f'<path class="line" d="{path}" fill="none" stroke-width="1.8" marker-end="url(#tip)"/>'


def rule(y):
    return f'<path class="rule" d="M24 {y}H424" stroke-width="1.5"/>'


def graph():
    """The nodes, which anyone can read."""
    parts = [text(40, 84, "Graph", weight=600), text(408, 84, "in clear: names, shapes, operators", "soft", 13, anchor="end")]
    for n, name in enumerate(["Conv", "Relu", "Conv", "Gemm"]):
        x = 40 + 97 * n
        parts += [box(x, 98, 76, 26, "page", radius=13), text(x + 38, 116, name, size=13, anchor="middle")]
        if n:
            parts.append(arrow((x - 20, 111), (x - 3, 111)))
    return parts


def weights():
    """Three tensors. Of the second, one subsequence in three stays in clear."""
    parts = [text(40, 168, "Weights", weight=600), text(408, 168, "in their places, their size unchanged", "soft", 13, anchor="end")]
    for row, (name, clear) in enumerate([("0.weight", ()), ("3.weight", (1, 4, 5, 8, 11, 13, 16)), ("8.weight", ())]):
        y = 182 + 22 * row
        parts.append(text(40, y + 11, name, size=13, font="monospace"))
        parts += [cell(120 + 16 * n, y, "clear" if n in clear else "sealed") for n in range(18)]
    parts += [
        cell(40, 258, "sealed"), text(60, 269, "encrypted, AES-256-GCM", "soft", 13),
        cell(272, 258, "clear"), text(292, 269, "in clear, by choice", "soft", 13),
    ]  # fmt: skip
    return parts


def metadata():
    """What `protect` adds at the end of the file."""
    parts = [text(40, 315, "metadata_props", weight=600, font="monospace"), text(408, 315, "added at the end", "soft", 13, anchor="end")]
    rows = [
        ("onnxseal.manifest", "what is encrypted, and where"),
        ("onnxseal.mac, .tags", "authenticate every byte"),
        ("onnxseal.key.1", "the data key, wrapped"),
    ]
    for row, (name, meaning) in enumerate(rows):
        y = 345 + 34 * row
        parts += [text(40, y, name, size=13, font="monospace"), text(408, y, meaning, "soft", 13, anchor="end")]
    return parts


def step(number, y, height, title, lines, kind="page", edge="rule"):
    """A step of opening, in the right column."""
    parts = [box(492, y, 284, height, kind, edge), text(508, y + 26, f"{number}. {title}", size=15, weight=600)]
    parts += [text(508, y + 48 + 20 * n, line, "soft", 13) for n, line in enumerate(lines)]
    return parts


def opening():
    """From the identity, at the bottom, to the session."""
    given = ["the original model, in memory:", "no decrypted file is written"]
    checked = ["graph, weights, external data;", "one changed bit, and it is refused;", "until then no weight is released"]
    return [
        *step(4, 60, 82, "ONNX Runtime", given, "open", "edge"),
        *step(3, 206, 102, "Every byte authenticated", checked),
        *step(2, 372, 62, "Data key", ["a new one for each model"]),
        *step(1, 466, 62, "Identity (secret)", ["age or ssh key, token, passphrase"]),
        arrow((634, 466), (634, 438)),
        arrow((634, 372), (634, 312)),
        arrow((634, 206), (634, 146)),
        arrow((424, 408), (488, 408)),
        arrow((424, 256), (488, 256)),
    ]


def drawing():
    """The whole picture as text."""
    title = "A protected ONNX file, and how it opens"
    words = (
        "Left: a file with its graph in clear, its weights encrypted, of one tensor only a part, and metadata_props "
        "with a manifest, a MAC with tags, and the wrapped data key. Right, from the bottom: an identity opens the data "
        "key; with it every byte is authenticated; then ONNX Runtime gets the original model in memory."
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-labelledby="t d" font-family="system-ui, Helvetica, Arial, sans-serif">',
        f'<title id="t">{title}</title>',
        f'<desc id="d">{words}</desc>',
        style(),
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" '
        'markerUnits="userSpaceOnUse" orient="auto"><path class="head" d="M0 0L8 4L0 8Z"/></marker>',
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
        text(24, 40, "sealed.onnx, a valid ONNX file", size=16, weight=600),
        text(492, 40, "How it opens", size=16, weight=600),
        box(24, 60, 400, 374, "file"),
        rule(142),
        rule(288),
        *graph(),
        *weights(),
        *metadata(),
        *opening(),
        text(24, 492, "Without an identity the weights stay ciphertext,"),
        text(24, 512, "and ONNX Runtime refuses to run the file."),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    OUT.write_text(drawing())
