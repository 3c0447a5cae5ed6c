"""Quantize a photograph with the same call on every CPU library, and draw the result.

    python examples/quantize_photo.py [--output PICTURE.png] [--libraries numpy torch jax dask]

Prints, for each library, the time, the distortion (mean distance of a pixel to its colour, in levels of
0 to 255) and how many labels are the same as NumPy's. Times include bringing the result to NumPy.
"""

import argparse
import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_image

import xpmeans
from xpmeans.vq import kmeans2

LIBRARIES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy", "dask": "dask.array"}
COLORS = 16
REPEATS = 3
CREDIT = "china.jpg of scikit-learn: danielbuechele, CC BY 2.0"
PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "demo.png"


def quantize(pixels: Any, colors: int) -> tuple[Any, Any]:
    """Find a code book, and the nearest colour of each pixel: the same lines for every library."""
    with xpmeans.array_api(True):
        book, _ = kmeans2(pixels, colors, minit="++", rng=0)
        # kmeans2's labels belong to the centroids it began its last iteration with: here, to `book`.
        _, label = kmeans2(pixels, book, iter=1, minit="matrix")
    return np.asarray(book), np.asarray(label)


def measure(library: str, pixels: Any) -> tuple[float, float, Any, Any]:
    """Time the first call and the fastest of the next ones; code book and labels come with it."""
    data = importlib.import_module(LIBRARIES[library]).asarray(pixels)
    seconds = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        book, label = quantize(data, COLORS)
        seconds.append(time.perf_counter() - start)
    return seconds[0], min(seconds[1:]), book, label


def compare(libraries: list[str], pixels: Any) -> None:
    """Print one line per library."""
    print(f"{len(pixels):,} pixels, {COLORS} colours, 10 iterations, float32")
    head = ("library", "first call", f"best of next {REPEATS}", "distortion", "labels as NumPy's")
    print(f"{head[0]:8}  {head[1]:>12}  {head[2]:>14}  {head[3]:>10}  {head[4]:>17}")
    _, reference = quantize(pixels, COLORS)
    for library in libraries:
        try:
            first, best, book, label = measure(library, pixels)
        except ModuleNotFoundError as error:
            print(f"{library:8}  not installed ({error})")
            continue
        distortion = np.linalg.norm(pixels - book[label].astype("float64"), axis=1).mean()
        same = np.mean(label == reference)
        print(f"{library:8}  {first:10.2f} s  {best:12.2f} s  {distortion:10.4f}  {same:17.4%}")


def draw(photo: Any, path: Path) -> None:
    """Draw a part of the photograph beside itself in fewer colours, over the palettes."""
    left, width, gap, head, strip = 40, 440, 16, 44, 40
    part = photo[:, left : left + width]
    height = len(part)
    sheet = Image.new("RGB", (3 * width + 4 * gap, head + height + strip + 2 * gap), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=22)
    distinct = len(np.unique(part.reshape(-1, 3), axis=0))
    for place, colors in enumerate((None, COLORS, 4)):
        x = gap + place * (width + gap)
        panel = part
        caption = f"the photograph: {distinct:,} colours"
        if colors is not None:
            pixels = photo.reshape(-1, 3).astype("float32")
            book, label = quantize(pixels, colors)
            palette = np.rint(book).astype("uint8")
            panel = palette[label].reshape(photo.shape)[:, left : left + width]
            caption = f"kmeans2: {colors} colours"
            by_brightness = palette[np.argsort(palette @ np.array([0.299, 0.587, 0.114]))]
            for i, color in enumerate(by_brightness.tolist()):
                edges = [x + width * step // colors for step in (i, i + 1)]
                top = head + height + gap
                pen.rectangle((edges[0], top, edges[1] - 1, top + strip - 1), fill=tuple(color))
        else:
            pen.text((x, head + height + gap), CREDIT, fill="#777777", font=ImageFont.load_default(size=15))
        sheet.paste(Image.fromarray(panel), (x, head))
        pen.text((x, head // 2), caption, fill="#222222", font=font, anchor="lm")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
    print(f"wrote {path}")


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="Quantize a photograph on every CPU library.")
    parser.add_argument("--output", type=Path, default=PICTURE, help="the picture to write")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    arguments = parser.parse_args()
    photo = load_sample_image("china.jpg")
    compare(arguments.libraries, photo.reshape(-1, 3).astype("float32"))
    draw(photo, arguments.output)


if __name__ == "__main__":
    main()
