"""Draws photos of road signs: 6 classes, two of which mirror each other.

    python benchmarks/road_signs.py FOLDER [IMAGES A CLASS] [SEED]

Each photo has a sign somewhere on a street-like background, of another size, turned, tilted, in another light, out of
focus and with a sensor's noise. It writes FOLDER/<class>/<number>.jpg, 160 px.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 160  # pixels of a photo
DRAWN = 256  # pixels of a sign before it is put into the photo
RED, BLUE, WHITE, BLACK = (200, 20, 30), (20, 70, 170), (245, 245, 245), (20, 20, 20)


def disc(draw, colour, inset):
    draw.ellipse([inset, inset, DRAWN - inset, DRAWN - inset], fill=colour)


def arrow(draw, points):
    draw.line(points, fill=WHITE, width=26, joint="curve")
    (x0, y0), (x1, y1) = points[-2:]
    along = np.array([x1 - x0, y1 - y0]) / np.hypot(x1 - x0, y1 - y0)
    across = np.array([-along[1], along[0]])
    tip = np.array([x1, y1]) + along * 34
    corners = [tip, np.array([x1, y1]) + across * 38, np.array([x1, y1]) - across * 38]
    draw.polygon([tuple(corner) for corner in corners], fill=WHITE)


def turn_right(draw):
    disc(draw, WHITE, 2)
    disc(draw, BLUE, 8)
    arrow(draw, [(92, 205), (92, 120), (165, 120)])


def turn_left(draw):
    disc(draw, WHITE, 2)
    disc(draw, BLUE, 8)
    arrow(draw, [(164, 205), (164, 120), (91, 120)])


def straight_on(draw):
    disc(draw, WHITE, 2)
    disc(draw, BLUE, 8)
    arrow(draw, [(128, 212), (128, 80)])


def speed_limit(digit):
    def sign(draw):
        disc(draw, RED, 2)
        disc(draw, WHITE, 32)
        for left, symbol in ((62, digit), (134, "0")):
            draw.text((left, 66), symbol, fill=BLACK, font_size=120, stroke_width=2)

    return sign


def no_entry(draw):
    disc(draw, RED, 2)
    draw.rectangle([48, 108, 208, 148], fill=WHITE)


CLASSES = {
    "no_entry": no_entry,
    "speed_30": speed_limit("3"),
    "speed_80": speed_limit("8"),
    "straight_on": straight_on,
    "turn_left": turn_left,
    "turn_right": turn_right,
}


def background(random) -> Image.Image:
    """Blurred patches of colour, and some posts and leaves."""
    coarse = random.integers(30, 220, (5, 5, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(5, 25)):
        x, y = random.integers(-20, SIZE, 2)
        w, h = random.integers(3, 60, 2)
        colour = tuple(int(c) for c in random.integers(0, 255, 3))
        shape = draw.rectangle if random.random() < 0.5 else draw.ellipse
        shape([x, y, x + w, y + h], fill=colour)
    return image


def photo(sign, random) -> Image.Image:
    """A photo of one sign."""
    drawn = Image.new("RGBA", (DRAWN, DRAWN))
    sign(ImageDraw.Draw(drawn))
    tilt = random.uniform(-0.18, 0.18, 8)  # of the corners, as a share of the side
    corners = np.array([0, 0, 0, 1, 1, 1, 1, 0]) * DRAWN + tilt * DRAWN
    drawn = drawn.transform((DRAWN, DRAWN), Image.Transform.QUAD, tuple(corners), Image.Resampling.BICUBIC)
    drawn = drawn.rotate(random.uniform(-20, 20), Image.Resampling.BICUBIC)
    side = int(SIZE * random.uniform(0.5, 0.95))
    drawn = drawn.resize((side, side), Image.Resampling.LANCZOS)
    image = background(random)
    image.paste(drawn, tuple(int(n) for n in random.integers(0, SIZE - side, 2)), drawn)
    image = image.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.6)))
    pixels = np.asarray(image, np.float32)
    pixels = pixels * random.uniform(0.35, 1.2) * random.uniform(0.85, 1.15, 3) + random.uniform(-10, 30)
    pixels += random.normal(0, random.uniform(2, 18), pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_photos(folder: Path, count: int = 100, seed: int = 0) -> None:
    """Writes ``count`` photos of each class."""
    random = np.random.default_rng(seed)
    for name, sign in CLASSES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            photo(sign, random).save(folder / name / f"{number:03}.jpg", quality=90)


if __name__ == "__main__":
    draw_photos(Path(sys.argv[1]), *map(int, sys.argv[2:]))
