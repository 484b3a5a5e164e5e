"""Where pictures come from: files, folders, a camera. For classify.py."""

import os
import sys
from pathlib import Path

from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def files(paths):
    """The files that are named, and the images in the folders that are."""
    for path in map(Path, paths):
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        yield from inside or [path]  # a folder without images gets its error when it is opened


def frames(number):
    """What a camera sees, without end, through OpenCV if it is there, else through picamera2 of a Raspberry Pi."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # of a missing camera, one line is enough
    try:
        import cv2
    except ImportError:
        return pi_frames(number)
    return opencv_frames(cv2.VideoCapture(number), number)


def opencv_frames(camera, number):
    """The pictures of an OpenCV camera."""
    while (frame := camera.read())[0]:
        yield Image.fromarray(frame[1][..., ::-1])  # OpenCV has blue first
    sys.exit(f"camera {number} gives no picture")


def pi_frames(number):
    """The pictures of a Raspberry Pi's camera."""
    try:
        from picamera2 import Picamera2

        camera = Picamera2(number)
        camera.start()
    except ImportError:
        sys.exit("--camera needs OpenCV or picamera2: pip install opencv-python, or apt install python3-picamera2")
    except (IndexError, RuntimeError) as error:
        sys.exit(f"camera {number} cannot be opened: {error}")
    while True:
        yield camera.capture_image()
