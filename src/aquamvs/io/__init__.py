"""Files: images, videos, depth maps, height maps, clouds and meshes; each whole or not at all."""

from .arrays import (
    Arrays,
    array_names,
    load_depth_map,
    load_height_map,
    open_arrays,
    save_arrays,
    save_depth_map,
    save_height_map,
)
from .atomic import atomic_path, remove_leftovers
from .cache import CACHE_VARIABLE, cache_folder
from .camera_export import CameraFormat, export_cameras
from .frames import FrameSources, open_source, open_sources
from .geotiff import save_geotiff
from .height_series import save_height_series
from .images import image_size, read_image, read_mask, write_image
from .mesh_export import export_mesh
from .netcdf import save_netcdf
from .ply import load_mesh, load_point_cloud, ply_elements, save_mesh, save_point_cloud
from .sources import IMAGE_SUFFIXES, FrameSource, ImageFolder
from .temporal import filter_inputs, temporal_median
from .video import VIDEO_SUFFIXES, VideoFile
from .video_writer import write_video

__all__ = [
    "CACHE_VARIABLE",
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Arrays",
    "CameraFormat",
    "FrameSource",
    "FrameSources",
    "ImageFolder",
    "VideoFile",
    "array_names",
    "atomic_path",
    "cache_folder",
    "export_cameras",
    "export_mesh",
    "filter_inputs",
    "image_size",
    "load_depth_map",
    "load_height_map",
    "load_mesh",
    "load_point_cloud",
    "open_arrays",
    "open_source",
    "open_sources",
    "ply_elements",
    "read_image",
    "read_mask",
    "remove_leftovers",
    "save_arrays",
    "save_depth_map",
    "save_geotiff",
    "save_height_map",
    "save_height_series",
    "save_mesh",
    "save_netcdf",
    "save_point_cloud",
    "temporal_median",
    "write_image",
    "write_video",
]
