"""Files that other readers open though something is wrong with them: so do we, and say what."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from data import ImageError, Reading, decode, decode_noted
from tests.data.pictures import GRAY, RGB, chunk, saved

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
PICTURE = NOISE.resize((150, 115))


def png_of(*chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def ramp_chunks():
    head = struct.pack(">IIBBBBB", GRAY.shape[1], GRAY.shape[0], 8, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in GRAY))
    return (b"IHDR", head), (b"IDAT", body), (b"IEND", b"")


@pytest.mark.parametrize("compressed", [True, False])
def test_a_text_of_two_megabytes(compressed):
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 2_000_000, zip=compressed)
    image, notes = decode_noted(saved(RGB, "PNG", pnginfo=text))
    assert np.array_equal(np.asarray(image), RGB)
    assert notes == ()


def test_a_colour_profile_of_two_megabytes():
    data = saved(RGB, "PNG", icc_profile=bytes(2_000_000))
    assert np.array_equal(np.asarray(decode(data)), RGB)


@pytest.mark.parametrize("name", [b"gAMA", b"pHYs", b"cHRM", b"acTL", b"eXIf", b"sBIT", b"zTXt"])
def test_odd_chunks_that_hold_no_pixels_are_passed_over(name):
    head, *rest = ramp_chunks()
    for body in (b"", b"\xff", bytes(50)):
        image, notes = decode_noted(png_of(head, (name, body), *rest))
        assert np.array_equal(np.asarray(image)[..., 0], GRAY)
        assert notes == ()


@pytest.mark.parametrize("cut", [1, 4, 8, 11, 12])
def test_a_png_without_its_end(cut):
    data = png_of(*ramp_chunks())
    image, notes = decode_noted(data[:-cut])
    assert np.array_equal(np.asarray(image)[..., 0], GRAY)
    assert notes == ("missing end of file",)


def test_a_png_whose_pixels_are_cut_is_refused():
    head, (name, body), end = ramp_chunks()
    for cut in (9, 20, len(body) // 2):
        for rest in ((end,), ()):
            with pytest.raises(ImageError, match="not a readable PNG"):
                decode(png_of(head, (name, body[:-cut]), *rest))
    for cut in (13, 20, 40):
        with pytest.raises(ImageError, match="cut short"):
            decode(png_of(*ramp_chunks())[:-cut])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("at_least", [None, 20])
def test_a_jpeg_without_its_end(options, at_least):
    data = saved(PICTURE, "JPEG", **options)
    whole = decode(data, at_least=at_least)
    for cut in (1, 2):
        image, notes = decode_noted(data[:-cut], at_least=at_least)
        assert image.tobytes() == whole.tobytes()
        assert notes == ("missing end of file",)
    for cut in (4, 5, 8, 20, 100, len(data) // 2, len(data) - 300):
        with pytest.raises(ImageError, match="not a readable JPEG"):
            decode(data[:-cut], at_least=at_least)


def test_a_progressive_jpeg_that_ends_between_two_scans_is_refused():
    data = saved(PICTURE, "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    with pytest.raises(ImageError, match="truncated"):
        decode(data[:last])


def test_animations_are_noted_and_their_frames_can_be_chosen():
    frames = [Image.fromarray(one) for one in (GRAY, 255 - GRAY, GRAY // 2)]
    for kind, note in (
        ("GIF", "frame {} of an animation"),
        ("PNG", "{} of 3 frames"),
        ("WEBP", "{} of 3 frames"),
    ):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        for page, wanted in enumerate((GRAY, 255 - GRAY)):
            image, notes = decode_noted(data, reading=Reading(page=page))
            assert np.array_equal(np.asarray(image)[..., 0], wanted)
            assert notes == (note.format(page + 1),)
        with pytest.raises(ImageError, match="page 9 was asked for"):
            decode(data, reading=Reading(page=8))


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_a_format_without_pages_gives_its_one_picture_and_says_so(kind):
    """With --page 2 for the stacks of a folder, every JPEG beside them was refused."""
    first, _ = decode_noted(saved(RGB, kind))
    image, notes = decode_noted(saved(RGB, kind), reading=Reading(page=1))
    assert np.array_equal(np.asarray(image), np.asarray(first))
    assert notes == ("its format has no pages: its one picture is taken",)


@pytest.mark.parametrize("kind", ["PPM", "PNG", "TIFF", "GIF", "WEBP"])
def test_a_page_that_is_not_there_is_refused(kind):
    with pytest.raises(ImageError, match="page 2 was asked for"):
        decode(saved(RGB, kind), reading=Reading(page=1))


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description xmlns:tiff='
    b'"http://ns.adobe.com/tiff/1.0/" %s</rdf:RDF></x:xmpmeta>'
)
FORMS = [b'tiff:Orientation="6"/>', b"><tiff:Orientation>6</tiff:Orientation></rdf:Description>"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_by_xmp_alone(kind, form):
    options = {"PNG": {}, "JPEG": {"xmp": XMP % form}, "WEBP": {"xmp": XMP % form}}[kind]
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", (XMP % form).decode(), zip=True)
        options = {"pnginfo": text}
    assert decode(saved(RGB, kind, **options)).size == (48, 84)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_comes_before_xmp(kind):
    exif = Image.Exif()
    exif[0x0112] = 1
    options = {"exif": exif, "xmp": XMP % FORMS[0]}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode())
        options["pnginfo"] = text
    assert decode(saved(RGB, kind, **options)).size == (84, 48)


@pytest.mark.parametrize("name", ["exif", "APP1"])
@pytest.mark.parametrize("compressed", [True, False])
def test_orientation_by_imagemagick_s_raw_profile(name, compressed):
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    digits = block.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = PngImagePlugin.PngInfo()
    text.add_text(f"Raw profile type {name}", f"\nexif\n{len(block):8}\n{lines}\n", zip=compressed)
    assert decode(saved(RGB, "PNG", pnginfo=text)).size == (48, 84)


@pytest.mark.parametrize("text", ["", "\nexif\n 3\nzz", "\n\n\n", "\nexif\n8\n4578"])
def test_a_broken_raw_profile_does_not_cost_the_image(text):
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", text, zip=True)
    assert decode(saved(RGB, "PNG", pnginfo=info)).size == (84, 48)
