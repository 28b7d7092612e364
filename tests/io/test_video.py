"""Videos: frames found by timestamps, and files that only look like videos."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from aquamvs.errors import DataError
from aquamvs.io import VideoFile
from aquamvs.io.alignment import align

SIZE = (64, 48)


def write_video(
    path: Path,
    times: Sequence[float],
    *,
    levels: Sequence[int] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    **options: str,
) -> Path:
    """A video whose frame i is grey of level ``levels[i]`` (or 10 i) at ``times[i]`` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.width, stream.height = SIZE
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, time in enumerate(times):
            level = 10 * index if levels is None else levels[index]
            pixels = np.full((SIZE[1], SIZE[0], 3), level, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def level(source: VideoFile, index: int) -> float:
    return 255 * float(source.read(index).mean())


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("order", [range(20), range(19, -1, -1), (7, 3, 3, 19, 0, 12, 11)])
def test_frames_between_key_frames_are_exact_in_any_order(
    tmp_path: Path, suffix: str, order: Sequence[int]
) -> None:
    times = [i / 30 for i in range(20)]
    source = VideoFile(write_video(tmp_path / f"a.{suffix}", times, g="9", bf="3", crf="1"))
    assert (source.frame_count, source.size) == (20, SIZE)
    for index in order:
        assert level(source, index) == pytest.approx(10 * index, abs=2)


def test_timestamps_are_the_containers_own(tmp_path: Path) -> None:
    times = [0.5, 0.54, 0.6, 0.7, 1.7, 1.75]  # a camera that dropped frames
    source = VideoFile(write_video(tmp_path / "a.mkv", times, crf="1", bf="2"))
    assert source.times == pytest.approx(times, abs=2e-3)
    assert level(source, 4) == pytest.approx(40, abs=2)


def test_ten_bits_are_kept(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [0.0], codec="ffv1", pixel_format="gbrp10le")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "gbrp10le"
        ramp = np.linspace(0, 65535, SIZE[0] * SIZE[1] * 3).reshape(SIZE[1], SIZE[0], 3)
        frame = av.VideoFrame.from_ndarray(ramp.astype(np.uint16), format="rgb48le")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = VideoFile(path).read(0)
    torch.testing.assert_close(found, torch.from_numpy(ramp / 65535).float(), atol=2e-3, rtol=0)
    assert len(found.unique()) > 512


def test_a_video_without_timestamps_is_read_by_counting(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", [i / 30 for i in range(12)], bf="0", crf="1", g="4")
    source = VideoFile(path)
    for index in (5, 2, 11, 0):
        assert level(source, index) == pytest.approx(10 * index, abs=2)


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile {other}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
    ],
    ids=["list", "playlist", "address"],
)
@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
def test_a_list_of_other_files_is_no_video(tmp_path: Path, text: str, suffix: str) -> None:
    write_video(tmp_path / "other.mkv", [0.0, 0.1])
    path = tmp_path / f"a.{suffix}"
    path.write_text(text.format(other="other.mkv"))
    with pytest.raises(DataError, match="cannot read video"):
        VideoFile(path)


def test_audio_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="has no video in it"):
        VideoFile(tmp_path / "a.mkv")


def test_unequal_starts_and_rates_are_matched_by_time_and_reported(tmp_path: Path) -> None:
    fast = [1 + i / 20 for i in range(20)]
    slow = [1.2 + i / 10 for i in range(8)]
    del slow[3]  # a frame that was dropped
    sources = {
        "fast": VideoFile(write_video(tmp_path / "fast.mkv", fast, crf="1")),
        "slow": VideoFile(write_video(tmp_path / "slow.mkv", slow, crf="1")),
    }
    found = align(sources)
    assert found.indices["slow"] == tuple(range(7))
    assert found.indices["fast"] == (4, 6, 8, 12, 14, 16, 18)
    assert found.labels[0] == "the moment 1.200 s"
    assert any(note.startswith("fast: 20 frames from 1.000 s at 20.0") for note in found.notes)


def test_a_frame_that_one_camera_dropped_is_missing_for_that_camera_only(tmp_path: Path) -> None:
    times = [i / 10 for i in range(6)]
    sources = {
        "whole": VideoFile(write_video(tmp_path / "a.mkv", times)),
        "gap": VideoFile(write_video(tmp_path / "b.mkv", times[:2] + times[3:])),
    }
    found = align(sources)
    assert found.indices == {"whole": (0, 1, 2, 3, 4, 5), "gap": (0, 1, None, 2, 3, 4)}


def test_videos_of_different_days_are_refused(tmp_path: Path) -> None:
    sources = {
        "a": VideoFile(write_video(tmp_path / "a.mkv", [0.0, 0.1, 0.2])),
        "b": VideoFile(write_video(tmp_path / "b.mkv", [9.0, 9.1, 9.2])),
    }
    with pytest.raises(DataError, match=r"no moment in common: a: 3 frames from 0\.000 s"):
        align(sources)
