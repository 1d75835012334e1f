"""Files made to hurt whoever decodes them."""

import struct
import zlib

import numpy as np
from PIL import Image

from tests.support.pictures import png_chunk, saved

JPEG_END = b"\xff\xd9"
JPEG_SCAN = b"\xff\xda"


def jpeg_header_only(width: int, height: int) -> bytes:
    """A JPEG that announces a size and holds no pixel."""
    jpeg = saved(Image.new("RGB", (8, 8)), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    sized = jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]
    return sized[: sized.index(JPEG_SCAN) + 14]


def png_header_only(width: int, height: int) -> bytes:
    """A PNG that announces a size and whose pixels end at once."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", b"\0")


def bmp_header_only(width: int, height: int) -> bytes:
    """A BMP that announces a size and holds no pixel."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def gif_with_first_picture(left: int, top: int, width: int, height: int) -> bytes:
    """A GIF whose screen is one pixel and whose first picture lies elsewhere.

    Its disposal asks the reader to reserve that picture's area on opening.
    """
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    control = b"!\xf9\x04" + bytes([2 << 2, 0, 0, 0]) + b"\0"
    picture = b"," + struct.pack("<HHHHB", left, top, width, height, 0)
    return screen + control + picture + b"\x02\x02\x44\x01\x00;"


def bmp_with_run_lengths(width: int, height: int) -> bytes:
    """A BMP of one color: each row ends at its start, and the reader fills it up."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 0, 0)
    palette = bytes([0, 0, 255, 0]) + bytes(255 * 4)
    rows = b"\x01\x00\0\0" * height
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(palette)) + info + palette + rows


def webp_with_canvas(width: int, height: int) -> bytes:
    """A WebP whose canvas is announced large and whose only picture is one pixel."""
    small = saved(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    frame = bytes(6) + bytes(6) + bytes(4) + small
    animation = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    animation += b"ANMF" + struct.pack("<I", len(frame)) + frame
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + sides + animation
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_of_many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG that goes over all its pixels again and again, a few bytes each time."""
    jpeg = saved(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last_scan = jpeg[jpeg.rindex(JPEG_SCAN) : -2]
    return jpeg[:-2] + last_scan * scans + JPEG_END


def jpeg_of_separate_scans(side: int) -> bytes:
    """A baseline JPEG, all grey, with a scan for each color: a decoder must keep all of it.

    Each block is "no difference" (00) and "end of block" (1010) in the standard's Huffman tables.
    """
    jpeg = saved(Image.new("RGB", (8, 8), (128, 128, 128)), "JPEG", subsampling="4:4:4")
    head = jpeg[: jpeg.index(JPEG_SCAN)]
    frame = head.index(b"\xff\xc0")
    head = head[: frame + 5] + struct.pack(">HH", side, side) + head[frame + 9 :]
    blocks = (side + 7) // 8
    codes = {0: "001010", 1: "0000"}
    scans = b""
    for color in range(3):
        table = min(color, 1)
        bits = codes[table] * (blocks * blocks)
        bits += "1" * (-len(bits) % 8)
        data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
        scans += JPEG_SCAN + bytes([0, 8, 1, color + 1, table * 0x11, 0, 63, 0]) + data
    return head + scans + JPEG_END


def png_of_many_texts(texts: int, unpacked: int) -> list[bytes]:
    """Chunks of compressed text, each of which grows to that many bytes."""
    packed = zlib.compress(bytes(unpacked), 9)
    return [png_chunk(b"zTXt", b"k%d\0\0" % number + packed) for number in range(texts)]


def gif_of_many_pictures(pictures: int) -> bytes:
    """An animation of that many pictures, all but the first alike."""
    red, blue = (Image.new("P", (4, 4), color) for color in (1, 2))
    for image in (red, blue):
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    gif = saved(red, "GIF", save_all=True, append_images=[blue])
    second = gif.rindex(b"!\xf9\x04")
    return gif[:-1] + gif[second:-1] * (pictures - 2) + b";"


def exif_that_loops() -> bytes:
    """EXIF of 4,000 entries whose first directory is also its next one, again and again."""
    entries = struct.pack("<HHII", 0x8769, 4, 1, 8) * 4000
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 4000) + entries + struct.pack("<I", 8)


def exif_that_is_cut_off() -> bytes:
    """EXIF whose camera's name would stand behind its end: Pillow warns when it reads that."""
    entry = struct.pack("<HHII", 0x010F, 2, 100, 1000)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)


def png_with_broken_chunk(png: bytes, kind: bytes) -> bytes:
    """The PNG with another checksum behind its first chunk of that kind."""
    start = png.index(kind)
    (length,) = struct.unpack_from(">I", png, start - 4)
    end = start + 4 + length
    return png[:end] + bytes(byte ^ 0xFF for byte in png[end : end + 4]) + png[end + 4 :]


def with_frame_marker(jpeg: bytes, marker: int) -> bytes:
    """The baseline JPEG, said to be of another coding (ITU-T T.81, table B.1)."""
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 1] + bytes([marker]) + jpeg[frame + 2 :]


def with_precision(jpeg: bytes, bits: int) -> bytes:
    """The baseline JPEG, said to have so many bits a sample."""
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 4] + bytes([bits]) + jpeg[frame + 5 :]


def tiff_of_directories(entries: int, following: int) -> bytes:
    """A TIFF whose first directory has so many entries and names another's place, or none (0)."""
    entry = struct.pack("<HHII", 0x0100, 4, 1, 64)
    directory = struct.pack("<H", entries) + entry * entries + struct.pack("<I", following)
    return b"II*\0" + struct.pack("<I", 8) + directory


def mangled(random: np.random.Generator, data: bytes) -> bytes:
    """The file with a few bytes changed, cut out or put in."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 6)):
        place = int(random.integers(0, len(changed) + 1))
        length = int(random.integers(1, 9))
        action = random.integers(4)
        if action == 0:
            changed[place : place + length] = random.bytes(length)
        elif action == 1:
            del changed[place : place + length]
        elif action == 2:
            changed[place:place] = random.bytes(length)
        else:
            changed[place : place + 1] = bytes([int(random.choice([0, 1, 127, 128, 254, 255]))])
    return bytes(changed)
