"""Pixel coordinates: every conversion between conventions, once.

AquaMVS puts (0, 0) at the *centre* of the top-left pixel, so an image of width W spans
[-0.5, W - 0.5]. Others differ by half a pixel or by scale; each conversion below is exact.
"""

import torch
from torch import Tensor


def pixel_grid(
    size: tuple[int, int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Pixel coordinates (u, v) of every pixel of an image.

    Args:
        size: (width, height).
        dtype: Of the result.
        device: Of the result.

    Returns:
        shape (height, width, 2).

    Example:
        >>> import torch
        >>> from aquamvs.pixels import pixel_grid
        >>> pixel_grid((3, 2), dtype=torch.float64)[1, 2].tolist()
        [2.0, 1.0]
    """
    width, height = size
    v, u = torch.meshgrid(
        torch.arange(height, dtype=dtype, device=device),
        torch.arange(width, dtype=dtype, device=device),
        indexing="ij",
    )
    return torch.stack([u, v], dim=-1)


def to_normalized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels to ``grid_sample`` coordinates with ``align_corners=False``: edges at -1 and 1.

    Args:
        pixels: shape (..., 2).
        size: (width, height) of the image that the pixels belong to.

    Returns:
        shape (..., 2), in [-1, 1] inside the image.

    Example:
        The border of an image lies half a pixel beyond the centres of its outer pixels:

        >>> import torch
        >>> from aquamvs.pixels import to_normalized
        >>> to_normalized(torch.tensor([[-0.5, -0.5], [3.5, 1.5]]), (4, 2)).tolist()
        [[-1.0, -1.0], [1.0, 1.0]]
    """
    extent = pixels.new_tensor(size)
    return (2 * pixels).add_(1).div_(extent).sub_(1)


def from_normalized(normalized: Tensor, size: tuple[int, int]) -> Tensor:
    """Inverse of :func:`to_normalized`; also what RoMa's cell-centred warps need.

    Example:
        >>> import torch
        >>> from aquamvs.pixels import from_normalized
        >>> from_normalized(torch.tensor([0.0, 0.0]), (4, 2)).tolist()
        [1.5, 0.5]
    """
    extent = normalized.new_tensor(size)
    return ((normalized + 1) * extent - 1) / 2


def rescale_pixels(
    pixels: Tensor, source_size: tuple[int, int], target_size: tuple[int, int]
) -> Tensor:
    """Pixels of an image to pixels of the same image at another resolution.

    Args:
        pixels: shape (..., 2).
        source_size: (width, height) that the pixels belong to.
        target_size: (width, height) wanted.

    Returns:
        shape (..., 2).

    Example:
        At half the size, the centre of the first pixel lies a quarter of a pixel before the new
        first one's:

        >>> import torch
        >>> from aquamvs.pixels import rescale_pixels
        >>> [round(v, 6) for v in rescale_pixels(torch.zeros(2), (400, 300), (200, 150)).tolist()]
        [-0.25, -0.25]
    """
    return from_normalized(to_normalized(pixels, source_size), target_size)


def rescale_intrinsics(
    K: Tensor, source_size: tuple[int, int], target_size: tuple[int, int]
) -> Tensor:
    """Intrinsics of an image resized from ``source_size`` to ``target_size``, shape (3, 3).

    Example:
        >>> import torch
        >>> from aquamvs.pixels import rescale_intrinsics
        >>> K = torch.tensor([[500.0, 0, 199.5], [0, 500, 149.5], [0, 0, 1]])
        >>> rescale_intrinsics(K, (400, 300), (200, 150))[0].tolist()
        [250.0, 0.0, 99.5]
    """
    sx = target_size[0] / source_size[0]
    sy = target_size[1] / source_size[1]
    scale = K.new_tensor([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
    return scale @ K


def cell_centres(grid_size: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """Image pixels at the centres of a grid of cells that divides the image evenly.

    Args:
        grid_size: (columns, rows) of the grid.
        image_size: (width, height) of the image.

    Returns:
        shape (rows, columns, 2), float32.

    Example:
        >>> from aquamvs.pixels import cell_centres
        >>> cell_centres((2, 1), (400, 300)).tolist()
        [[[99.5, 149.5], [299.5, 149.5]]]
    """
    return rescale_pixels(pixel_grid(grid_size), grid_size, image_size)


def to_colmap(pixels: Tensor) -> Tensor:
    """Pixels to COLMAP's and Nerfstudio's convention: (0, 0) is the *corner* of the top-left pixel.

    Example:
        >>> import torch
        >>> from aquamvs.pixels import to_colmap
        >>> to_colmap(torch.tensor([0.0, 0.0])).tolist()
        [0.5, 0.5]
    """
    return pixels + 0.5
