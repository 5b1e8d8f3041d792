# S3DIS, 13 classes, tested on Area 5; for 6-fold cross-validation change the three splits. The voxel size, the crop and
# the features are PTv3's.
from pointcept.config.blocks import scaled_variants, scene_transforms, usual_hooks

_base_ = ["./semseg_benchmark.py"]

_grid_size = 0.02
_crops = [dict(sample_rate=0.6), dict(point_max=204800)]
_transforms = scene_transforms(_grid_size, ("color", "normal"), crops=_crops)
_scenes = dict(type="S3DISDataset", data_root="data/s3dis")
_areas = ("Area_1", "Area_2", "Area_3", "Area_4", "Area_6")
data = dict(
    train=dict(**_scenes, split=_areas, transform=_transforms["train"]),
    val=dict(**_scenes, split="Area_5", transform=_transforms["val"]),
    test=dict(**_scenes, split="Area_5", transform=_transforms["test"]),
)

_evaluator = dict(type="SemSegEvaluator", num_classes=13, class_names="s3dis")
test = dict(
    evaluator=_evaluator,
    inference=dict(grid_size=_grid_size, aug_transform=scaled_variants(), post_transform=_transforms["fragment"]),
)
hooks = usual_hooks(_evaluator, save_every_minutes=10.0)

mix_prob = 0.8
