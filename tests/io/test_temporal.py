"""The temporal filter's files: images and lossless videos hold the same medians."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aquamvs.errors import ConfigError, DataError
from aquamvs.io import ImageFolder, VideoFile, filter_inputs, read_image, write_image, write_video

SIZE = (33, 21)


def noisy(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (count, SIZE[1], SIZE[0], 3), generator=generator)
    return list(levels.float() / 255)


def levels(image: torch.Tensor) -> torch.Tensor:
    """The 8 bits of each channel, which is what files hold."""
    return (image * 255).round().byte()


def test_a_written_video_comes_back_pixel_for_pixel_and_in_time(tmp_path: Path) -> None:
    images, times = noisy(5), [0.0, 0.033, 0.067, 1.5, 1.501]
    for name in ("a.mkv", "b.mkv"):
        assert write_video(tmp_path / name, zip(times, images, strict=True)) == 5
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()
    found = VideoFile(tmp_path / "a.mkv")
    assert (found.frame_count, found.size) == (5, SIZE)
    np.testing.assert_allclose(found.times or (), times, atol=1e-9)
    for index in (4, 0, 3, 1, 2):
        assert torch.equal(levels(found.read(index)), levels(images[index]))


def test_a_filtered_video_holds_what_the_images_do(tmp_path: Path) -> None:
    times = [0.5 + index / 25 for index in range(9)]
    write_video(tmp_path / "in" / "cam0.mkv", zip(times, noisy(9), strict=True))
    for number, image in enumerate(noisy(7)):
        write_image(tmp_path / "in" / "cam1" / f"{number}.png", image)
    (tmp_path / "in" / "results" / "deeper").mkdir(parents=True)  # no input, and no fault
    options = {"window": 4, "step": 3}
    images = filter_inputs(tmp_path / "in", output_dir=tmp_path / "png", **options)  # type: ignore[arg-type]
    videos = filter_inputs(
        tmp_path / "in",
        output_dir=tmp_path / "video",
        as_video=True,
        frame_rate=10,
        **options,  # type: ignore[arg-type]
    )
    assert list(images.values()) == list(videos.values()) == [3, 3]
    for name, expected in (("cam0", [0.5, 0.62, 0.74]), ("cam1", [0.0, 0.3, 0.6])):
        video = VideoFile(tmp_path / "video" / f"{name}.mkv")
        np.testing.assert_allclose(video.times or (), expected, atol=1e-9)
        files = ImageFolder(tmp_path / "png" / name).files
        for index, path in enumerate(files):
            assert torch.equal(levels(video.read(index)), levels(read_image(path)))


def test_what_makes_no_video_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    images = noisy(2)
    small = images[0][:5]
    path = tmp_path / "a.mkv"
    with pytest.raises(DataError, match=r"ends in \.mkv"):
        write_video(tmp_path / "a.mp4", [(0.0, images[0])])
    with pytest.raises(DataError, match="no frame"):
        write_video(path, [])
    with pytest.raises(DataError, match="another size"):
        write_video(path, [(0.0, images[0]), (1.0, small)])
    with pytest.raises(DataError, match="less than a millisecond"):
        write_video(path, [(0.0, images[0]), (0.0002, images[1])])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="frame_rate is 0"):
        filter_inputs(tmp_path, frame_rate=0)


def test_inputs_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "cam0.mkv", [(0.0, noisy(1)[0])])
    write_image(tmp_path / "in" / "cam0" / "0.png", noisy(1)[0])
    with pytest.raises(DataError, match="two inputs"):
        filter_inputs(tmp_path / "in", window=1)


def test_an_input_that_cannot_be_read_is_found_before_the_first_is_written(tmp_path: Path) -> None:
    for index, image in enumerate(noisy(3)):
        write_image(tmp_path / "in" / "cam0" / f"{index}.png", image)
    (tmp_path / "in" / "cam1.mp4").touch()
    with pytest.raises(DataError, match=r"cam1\.mp4"):
        filter_inputs(tmp_path / "in", output_dir=tmp_path / "out", window=3)
    assert not (tmp_path / "out").exists()


def test_a_window_that_does_not_fit_into_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, image in enumerate(noisy(4)):
        write_image(tmp_path / "cam0" / f"{number}.png", image)
    size = 4 * SIZE[0] * SIZE[1] * 3
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=size - 1))
    with pytest.raises(ConfigError, match="larger window_step"):
        filter_inputs(tmp_path / "cam0", window=4)
    assert list(filter_inputs(tmp_path / "cam0", window=4, window_step=2).values()) == [4]
