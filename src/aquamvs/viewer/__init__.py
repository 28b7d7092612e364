"""A local browser view of clouds, meshes, height maps and the rig."""

from .server import ViewServer

__all__ = ["ViewServer"]
