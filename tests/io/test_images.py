"""Images keep their values, and damaged files are refused."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aquamvs.errors import DataError, ShapeError
from aquamvs.io import image_size, read_image, read_mask, write_image
from aquamvs.io.images import MAX_PIXELS, color_levels


def levels(shape: tuple[int, ...], dtype: type[np.generic] = np.uint8) -> np.ndarray:
    return np.random.default_rng(5).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_is_rgb_at_full_precision(
    tmp_path: Path, suffix: str, dtype: type[np.generic]
) -> None:
    bgr = levels((7, 11, 3), dtype)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), bgr)
    image = read_image(tmp_path / f"a{suffix}")
    assert image.dtype == torch.float32
    expected = bgr[:, :, ::-1] / np.iinfo(dtype).max
    np.testing.assert_allclose(image.numpy(), expected, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_becomes_three_equal_channels(tmp_path: Path, dtype: type[np.generic]) -> None:
    grey = levels((6, 5), dtype)
    cv2.imwrite(str(tmp_path / "a.png"), grey)
    image = read_image(tmp_path / "a.png").numpy()
    np.testing.assert_allclose(image, np.repeat(grey[..., None], 3, 2) / np.iinfo(dtype).max)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_dropped_and_does_not_blend(tmp_path: Path, dtype: type[np.generic]) -> None:
    bgra = levels((6, 5, 4), dtype)
    cv2.imwrite(str(tmp_path / "a.png"), bgra)
    expected = bgra[:, :, 2::-1] / np.iinfo(dtype).max
    np.testing.assert_allclose(read_image(tmp_path / "a.png").numpy(), expected, atol=1e-7)


def test_orientation_tag_does_not_turn_the_sensor(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[274] = 6  # rotate by 90 degrees
    Image.fromarray(levels((20, 30, 3))).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (20, 30, 3)
    assert image_size(tmp_path / "a.jpg") == (30, 20)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
@settings(max_examples=25, deadline=None)
def test_written_image_reads_back_exactly(tmp_path_factory: pytest.TempPathFactory, grey) -> None:
    path = tmp_path_factory.mktemp("round") / "a.png"
    image = torch.from_numpy(grey)[..., None].expand(-1, -1, 3) / 255
    write_image(path, image)
    assert torch.equal(read_image(path), image)


def test_same_image_gives_same_bytes(tmp_path: Path) -> None:
    image = torch.from_numpy(levels((30, 40, 3))) / 255
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, image)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_out_of_range_is_clipped_and_unknown_is_black(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", torch.tensor([[-1.0, 2.0, torch.nan, 0.2]]))
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == pytest.approx([0, 1, 0, 0.2])


def test_levels_are_rounded_half_to_even() -> None:
    values = torch.arange(511.0)[None] / 510  # every level, and the middle between every two
    assert np.array_equal(color_levels(values), (values * 255).round().byte().numpy())
    odd = torch.tensor([[-torch.inf, -0.3, 1.2, 1e9, torch.inf, torch.nan]]).repeat(1, 9)
    assert np.array_equal(color_levels(odd), [[0, 0, 255, 255, 255, 0] * 9])
    assert color_levels(torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.98])
def test_truncated_file_is_refused_by_name(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"frame_000003{suffix}"
    cv2.imwrite(str(path), levels((60, 80, 3)))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(DataError, match=f"frame_000003{suffix}"):
        read_image(path)


def test_flipped_bit_in_a_png_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), levels((60, 80, 3)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        read_image(path)


def _png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT"


@pytest.mark.parametrize("side", [8193, 16384, 1 << 20])
def test_declared_size_is_checked_before_decoding(tmp_path: Path, side: int) -> None:
    assert side * side > MAX_PIXELS
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_header(side, side))
    for function in (image_size, read_image):
        with pytest.raises(DataError, match=r"bomb.png"):
            function(path)


def test_missing_and_foreign_files_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text.png.*PNG, JPEG or TIFF"):
        read_image(tmp_path / "text.png")
    with pytest.raises(DataError, match="no plain file"):
        read_image(tmp_path)


def test_unreadable_depths_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "float.tif"), np.ones((4, 4), np.float32))
    with pytest.raises(DataError, match="8 or 16 bits"):
        read_image(tmp_path / "float.tif")


@given(st.integers(1, 8), st.integers(1, 8))
@settings(max_examples=10, deadline=None)
def test_mask_keeps_white(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int
) -> None:
    path = tmp_path_factory.mktemp("mask") / "m.png"
    keep = torch.arange(width * height).reshape(height, width) % 3 == 0
    write_image(path, keep.float())
    assert torch.equal(read_mask(path, (width, height)), keep)


def test_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "m.png", torch.ones(4, 5))
    with pytest.raises(DataError, match="5 x 4; expected 4 x 5"):
        read_mask(tmp_path / "m.png", (4, 5))


def test_only_png_of_image_shape_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ends in .png"):
        write_image(tmp_path / "a.jpg", torch.zeros(2, 2))
    for shape in ((2, 2, 4), (2,), (0, 3)):
        with pytest.raises(ShapeError, match="image"):
            write_image(tmp_path / "a.png", torch.zeros(shape))
    assert list(tmp_path.iterdir()) == []
