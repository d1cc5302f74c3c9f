"""What `data.images` takes from Pillow beyond its documented interface.

When one of these fails after an update, Pillow has changed; the message says what, and what to do.
"""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from data import images, jpeg, tiff_tags

PLUGINS = {
    "JPEG": jpeg.JpegFile,
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "PPM": PpmImageFile,
}


def encoded(kind, **options):
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "plugin"), PLUGINS.items())
def test_a_plugin_opens_a_file_when_it_is_called(name, plugin):
    data = encoded(name)
    ours, theirs = plugin(io.BytesIO(data)), Image.open(io.BytesIO(data))
    assert isinstance(ours, type(theirs)), (
        f"Pillow opens {name} files by {type(theirs).__name__} now: use that in data"
    )
    assert np.array_equal(np.asarray(ours), np.asarray(theirs)), (
        f"{plugin.__name__}(file) gives other pixels than Image.open: Image.open does something to "
        "the image since this version that images.decode must do too"
    )


def test_the_limit_is_where_pillow_refuses_a_decompression_bomb():
    assert images.MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS, (
        "Pillow refuses images above another size now: put images.MAX_PIXELS where it does"
    )


def test_a_jpeg_asks_getexif_for_its_dpi():
    class Asked(JpegImageFile):
        times = 0

        def getexif(self):
            type(self).times += 1
            return Image.Exif()

    Asked(io.BytesIO(encoded("JPEG", exif=b"Exif\0\0II*\0")))
    assert Asked.times, (
        "Pillow opens a JPEG without asking getexif: jpeg.JpegFile keeps nothing away from the "
        "EXIF block any more; see how it reads dpi now, or use JpegImageFile as it is"
    )


@pytest.mark.parametrize(
    "exif", [b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\xff\xff\xff\xff", b"II*\0\xff", b"junk" * 9]
)
def test_a_jpeg_opens_without_a_word_about_its_exif(exif):
    data = encoded("JPEG", exif=b"Exif\0\0" + exif)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        image = jpeg.JpegFile(io.BytesIO(data))
        image.load()
    assert [str(each.message) for each in said] == [], (
        "Pillow parses the EXIF block of a JPEG some other way than by getexif: jpeg.JpegFile "
        "must keep it from that too"
    )
    assert image.info["exif"] == b"Exif\0\0" + exif, (
        'Pillow does not put the EXIF block as it stands under info["exif"] any more: find where '
        "images.decode can have it, or no JPEG is turned upright"
    )


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_the_exif_block_is_bytes_under_info(kind):
    image = Image.open(io.BytesIO(encoded(kind, exif=b"II*\0\x08\0\0\0\0\0")))
    image.load()
    assert isinstance(image.info.get("exif"), bytes), (
        f'Pillow does not put the EXIF block of a {kind} as bytes under info["exif"] any more: '
        "images.decode would leave turned pictures as they are"
    )


def test_pillow_turns_a_tiff_by_its_tag_alone():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded("TIFF", exif=exif)
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.size == (24, 32), "Pillow does not turn TIFFs upright any more"
    page, _ = tiff_tags.read_pages(tiff_tags.reader(data), len(data), 0)
    image = TiffImageFile(io.BytesIO(tiff_tags.rewritten(data, page)))
    image.load()
    assert image.size == (32, 24), (
        "Pillow finds an orientation where tiff_tags.rewritten left the tag out: tiff.read_tiff "
        "would turn the picture again"
    )


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_draft_scales_by_a_fraction_of_the_side(scale):
    for side in (1, 7, 9, 15, 16, 63, 65):
        buffer = io.BytesIO()
        Image.new("RGB", (side, side)).save(buffer, "JPEG")
        image = JpegImageFile(io.BytesIO(buffer.getvalue()))
        image.draft("RGB", (side / scale, side / scale))
        image.load()
        assert image.size == (-(-side // scale),) * 2, (
            "draft chooses another scale for a fractional size, or rounds sizes another way: "
            "jpeg._load must ask for jpeg.dct_scale's scale by other means"
        )
        assert image.decoderconfig == (scale, 0), (
            "draft keeps the scale and the DCT's method elsewhere, or takes the fast DCT: images "
            "must be decoded by the accurate one"
        )


def test_wide_gray_is_clipped_by_convert():
    for values in (np.uint16([[300, 65535]]), np.int32([[300, 65535]]), np.float32([[300, 65535]])):
        got = np.asarray(Image.fromarray(values).convert("RGB"))
        assert (got == 255).all(), (
            f"convert does not clip {values.dtype} any more: images._wide may be needless, where "
            "convert is shown to give the same pixels"
        )


def test_a_wrong_checksum_in_pixel_data_goes_unnoticed():
    data = bytearray(encoded("PNG"))
    at = data.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", data, at)
    data[at + 8 + length] ^= 1
    try:
        PngImageFile(io.BytesIO(bytes(data))).load()
    except Exception as error:
        pytest.fail(f"Pillow checks the checksums of pixel data now ({error}): png._walk need not")


def test_our_rule_is_what_filterwarnings_puts_in_front():
    with warnings.catch_warnings():
        warnings.resetwarnings()
        images._quiet_plugins()
        assert warnings.filters == [images._QUIET], (
            "warnings.filters holds rules in another form: images._quiet_plugins takes its own for "
            "a stranger's and adds one with every image"
        )
        images._quiet_plugins()
        assert len(warnings.filters) == 1


def odd_tiff():
    data = bytearray(encoded("TIFF"))
    entry = data.index(struct.pack("<HHI", 284, 3, 1))
    struct.pack_into("<I", data, entry + 4, 2)  # two values where PlanarConfiguration has one
    return bytes(data)


def odd_png():
    data = encoded("PNG")
    body = b"acTL" + struct.pack(">II", 0, 0)  # an animation of no frames
    chunk = struct.pack(">I", 8) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("make", [odd_tiff, odd_png])
def test_odd_tags_are_warned_of_in_the_modules_that_are_quieted(make):
    data = make()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        Image.open(io.BytesIO(data)).load()
    assert said, "Pillow says nothing of odd tags any more: images._quiet_plugins can go"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert images.decode(data).size == (32, 24)
    assert [f"{each.filename}: {each.message}" for each in said] == [], (
        "Pillow warns of odd tags from a module that images._NOISY does not name"
    )
