"""Operations on points, voxels and volumes, in plain torch."""
