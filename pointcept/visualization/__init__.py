"""Pictures and files to look at: panels of rendered views, point clouds and meshes."""

from pointcept.visualization.confusion import confusion_picture
from pointcept.visualization.mesh import Surface, extract_surface, scene_surface, voxel_centers, write_mesh
from pointcept.visualization.panels import normals_from_depth, rendering_panels
from pointcept.visualization.point_cloud import Viewpoint, overview, render_point_cloud, write_point_cloud

__all__ = [
    "Surface",
    "Viewpoint",
    "confusion_picture",
    "extract_surface",
    "normals_from_depth",
    "overview",
    "render_point_cloud",
    "rendering_panels",
    "scene_surface",
    "voxel_centers",
    "write_mesh",
    "write_point_cloud",
]
