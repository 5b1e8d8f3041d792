"""Fusing posed depth maps to one coloured point cloud with normals."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from pointcept.datasets.preprocessing.images import depth_edges
from pointcept.datasets.preprocessing.registration import pixel_rays
from pointcept.datasets.preprocessing.thinning import draw_to_surface

# Normals are fitted in windows of (2 r + 1)^2 pixels; edges are widened by one pixel, so that windows with r <= 4 that
# are centred outside them reach no pixel of another surface.
NORMAL_RADIUS_PX = 3
# Surfaces seen at less than this cosine to the viewing ray (78 degrees from their normal) are left out.
GRAZING_COSINE = 0.2
# Voxel indices are packed in 21 bits per axis.
MAX_VOXEL = 2**20
# Voxels whose mean normal is shorter hold both sides of a thin sheet.
MIN_NORMAL_LENGTH = 1e-3
MERGE_ROWS = 1_000_000


def depth_normals(
    depth: Float[np.ndarray, "H W"], intrinsic: Float[np.ndarray, "3 3"]
) -> tuple[Float[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"]]:
    """Surface normal of each depth pixel, towards the camera, by a local plane.

    A plane n . X = 1 seen through a pinhole has the inverse depth n . ray, which is linear in the pixel position. The
    normal follows from the least-squares slope of the inverse depth over the measured pixels of a window, so it is
    exact on planes at any angle and with any holes. Depth discontinuities are no part of any window.

    Args:
        depth: z-depth, metres, 0 = missing.
        intrinsic: Pixels, the centre of the first pixel at (0, 0).

    Returns:
        The normals (camera frame, unit length where valid) and where they are valid: there is depth, no
        discontinuity, at least half a window of measurements, and the surface is not seen at a grazing angle.
    """
    valid = (depth > 0) & ~ndimage.binary_dilation(depth_edges(depth), structure=np.ones((3, 3), dtype=bool))
    weight = valid.astype(np.float64)
    inverse = np.where(valid, 1 / np.where(valid, depth, 1), 0).astype(np.float64)
    offset = np.arange(-NORMAL_RADIUS_PX, NORMAL_RADIUS_PX + 1, dtype=np.float64)
    powers = [offset**0, offset, offset**2]

    def moment(image: np.ndarray, u_power: int, v_power: int) -> np.ndarray:
        rows = ndimage.correlate1d(image, powers[v_power], axis=0, mode="constant")
        return ndimage.correlate1d(rows, powers[u_power], axis=1, mode="constant")

    count, u, v = moment(weight, 0, 0), moment(weight, 1, 0), moment(weight, 0, 1)
    valid &= count >= 0.5 * len(offset) ** 2
    count = np.maximum(count, 1)
    mean = moment(inverse, 0, 0) / count
    uu = moment(weight, 2, 0) - u * u / count
    vv = moment(weight, 0, 2) - v * v / count
    uv = moment(weight, 1, 1) - u * v / count
    uw = moment(inverse, 1, 0) - u * mean
    vw = moment(inverse, 0, 1) - v * mean
    determinant = uu * vv - uv * uv
    valid &= determinant > 0
    determinant = np.where(valid, determinant, 1)
    slope_u = (vv * uw - uv * vw) / determinant
    slope_v = (uu * vw - uv * uw) / determinant
    at_pixel = mean - (slope_u * u + slope_v * v) / count
    rows, columns = np.mgrid[: depth.shape[0], : depth.shape[1]]
    plane = np.stack([slope_u, slope_v, at_pixel - slope_u * columns - slope_v * rows], axis=-1)
    normal = -(plane @ intrinsic)  # n = K^T plane points away from the camera
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    ray = pixel_rays(intrinsic, depth.shape)
    cosine = -(normal * ray).sum(axis=-1) / np.linalg.norm(ray, axis=-1)
    return normal, valid & (cosine > GRAZING_COSINE)


@dataclasses.dataclass(frozen=True)
class FusedCloud:
    """A fused cloud.

    Attributes:
        coord: (N, 3) float32, metres, world frame.
        color: (N, 3) uint8, RGB.
        normal: (N, 3) float32, unit, world frame.
    """

    coord: np.ndarray
    color: np.ndarray
    normal: np.ndarray


class CloudFusion:
    """Averages the points of many frames in voxels; memory grows with the surface, not with the number of frames."""

    def __init__(self, voxel_size_m: float) -> None:
        """Start empty.

        Args:
            voxel_size_m: Voxel edge, metres.

        Raises:
            ValueError: it is not positive.
        """
        if not voxel_size_m > 0:
            raise ValueError(f"The voxel size must be positive: got {voxel_size_m} m.")
        self.voxel_size_m = voxel_size_m
        self._keys: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []
        self._pending = 0

    def add_frame(
        self,
        color: UInt8[np.ndarray, "H W 3"],
        depth: Float[np.ndarray, "H W"],
        intrinsic: Float[np.ndarray, "3 3"],
        camera_to_world: Float[np.ndarray, "4 4"],
        use: Bool[np.ndarray, "H W"] | None = None,
    ) -> None:
        """Add the well-seen points of one frame (see ``depth_normals``).

        Args:
            color: RGB, registered to depth.
            depth: z-depth, metres, 0 = missing.
            intrinsic: Of both, pixels.
            camera_to_world: Pose, metres.
            use: Pixels that may be used; all by default.

        Raises:
            ValueError: a point is more than 2**20 voxels from the origin.
        """
        normal, valid = depth_normals(depth, intrinsic)
        if use is not None:
            valid &= use
        rotation, translation = camera_to_world[:3, :3], camera_to_world[:3, 3]
        points = (pixel_rays(intrinsic, depth.shape)[valid] * depth[valid][:, None]) @ rotation.T + translation
        self._add_points(points, color[valid], normal[valid] @ rotation.T)

    def _add_points(
        self, coord: Float[np.ndarray, "N 3"], color: UInt8[np.ndarray, "N 3"], normal: Float[np.ndarray, "N 3"]
    ) -> None:
        if len(coord) == 0:
            return
        if np.abs(coord).max() >= (MAX_VOXEL - 1) * self.voxel_size_m:
            raise ValueError(
                f"Points must lie within {MAX_VOXEL * self.voxel_size_m:.0f} m of the origin: one is at "
                f"{np.abs(coord).max():.6g} m. Poses must be in metres; check them and the depth scale."
            )
        # Columns: position, colour, normal, number of points, number of frames.
        values = np.concatenate([coord, color, normal, np.ones((len(coord), 1))], axis=1)
        keys, sums = _reduce(self._key(coord), values)
        self._keys.append(keys)
        self._sums.append(np.concatenate([sums, np.ones((len(keys), 1))], axis=1))
        self._pending += len(keys)
        if self._pending > MERGE_ROWS:
            self._merge()

    def _merge(self) -> None:
        keys, sums = _reduce(np.concatenate(self._keys), np.concatenate(self._sums))
        self._keys, self._sums, self._pending = [keys], [sums], 0

    def cloud(self, min_observations: int) -> FusedCloud:
        """The surface that at least ``min_observations`` frames saw, one point per voxel, in the order of the voxels.

        Noise spreads a surface over several layers of voxels; they are drawn together (``draw_to_surface``) and
        averaged again. Voxels whose normals cancel (both sides of a thin sheet) are left out.

        Raises:
            ValueError: no voxel is left.
        """
        if self._keys:
            self._merge()
        sums = self._sums[0] if self._sums else np.zeros((0, 11))
        length = np.linalg.norm(sums[:, 6:9], axis=1)
        kept = sums[(sums[:, 10] >= min_observations) & (length > MIN_NORMAL_LENGTH * sums[:, 9])]
        if len(kept) == 0:
            raise ValueError(
                f"The fused cloud must have points: none of {len(sums)} voxels was seen in {min_observations} frames. "
                "Lower --min-observations, enlarge --voxel-size, or check poses and depth scale."
            )
        mean = kept[:, :9] / kept[:, 9:10]
        normal = mean[:, 6:9] / np.linalg.norm(mean[:, 6:9], axis=1, keepdims=True)
        coord, normal = draw_to_surface(mean[:, :3], normal, kept[:, 9], self.voxel_size_m)
        # Layers that were drawn together now share voxels.
        measurements = kept[:, 9:10]
        values = np.concatenate([coord * measurements, mean[:, 3:6] * measurements, normal * measurements], axis=1)
        _, thin = _reduce(self._key(coord), np.concatenate([values, measurements], axis=1))
        thin = thin[np.linalg.norm(thin[:, 6:9], axis=1) > MIN_NORMAL_LENGTH * thin[:, 9]]
        return FusedCloud(
            (thin[:, :3] / thin[:, 9:]).astype(np.float32),
            np.rint(thin[:, 3:6] / thin[:, 9:]).astype(np.uint8),
            (thin[:, 6:9] / np.linalg.norm(thin[:, 6:9], axis=1, keepdims=True)).astype(np.float32),
        )

    def _key(self, coord: Float[np.ndarray, "N 3"]) -> Int[np.ndarray, " N"]:
        """The voxel of each point as one integer."""
        packed = np.floor(coord / self.voxel_size_m).astype(np.int64) + MAX_VOXEL
        return (packed[:, 0] << 42) | (packed[:, 1] << 21) | packed[:, 2]


def _reduce(
    keys: Int[np.ndarray, " N"], values: Float[np.ndarray, "N C"]
) -> tuple[Int[np.ndarray, " M"], Float[np.ndarray, "M C"]]:
    """Rows of equal key summed; keys rising."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(values[order], starts, axis=0)
