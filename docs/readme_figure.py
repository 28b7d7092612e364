"""Draw the README's figure: render the example, reconstruct it, compare it with the truth.

python docs/readme_figure.py            writes docs/_static/readme.jpg (some minutes on 2 cores)
python docs/readme_figure.py --scale small --out FILE.jpg
"""

import argparse
import io
import tempfile
from pathlib import Path

import torch
from PIL import Image

from aquamvs.calibration import load_calibration_data
from aquamvs.config import PipelineConfig
from aquamvs.datasets import ExampleScale, load_ground_truth, make_example
from aquamvs.evaluation import HeightGrid
from aquamvs.io import open_sources
from aquamvs.pipeline import undistort_views, undistortion_maps
from aquamvs.surface import sweep_surface
from aquamvs.visualization import figure_png, plot_summary

TARGET = Path(__file__).parent / "_static" / "readme.jpg"


def draw(dataset: Path) -> bytes:
    """The figure as JPEG."""
    config = PipelineConfig.from_yaml(dataset / "config.yaml")
    calibration = load_calibration_data(config.calibration_path)
    frames = open_sources(config.camera_input_map, calibration).read_frame(0)
    height_map = sweep_surface(undistort_views(frames, calibration, undistortion_maps(calibration)))
    surface = load_ground_truth(dataset).surface
    truth = HeightGrid(surface.x0, surface.y0, surface.spacing, surface.z)
    error = height_map.z - torch.from_numpy(truth.at(*height_map.grid_xy()))
    camera = calibration.ring_cameras[0]
    width, height = calibration.cameras[camera].image_size
    heights = int(height_map.z.isfinite().sum())
    title = f"{len(frames.images)} cameras of {width} x {height} above water: {heights:,} heights"
    figure = plot_summary(frames.images[camera], height_map, error, title=title)
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(figure_png(figure))) as picture:
        picture.convert("RGB").save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def main() -> None:
    """Render, reconstruct, draw."""
    parser = argparse.ArgumentParser(description="Draw the README's figure.")
    parser.add_argument("--scale", default="medium", choices=[str(s) for s in ExampleScale])
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--out", default=TARGET, type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_example(Path(folder) / "example", scale=arguments.scale, seed=arguments.seed)
        arguments.out.write_bytes(draw(dataset))


if __name__ == "__main__":
    main()
