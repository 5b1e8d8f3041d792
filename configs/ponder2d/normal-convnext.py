# Surface normals from one image with ConvNeXt-T, from scratch or from a pre-trained backbone and neck:
#   sh scripts/train.sh -c ponder2d/normal-convnext -w exp/ponder2d/pretrain-ponder-convnext/model/model_last.pth
# The targets are planes fitted to the measured depth.
from pointcept.config.blocks import usual_hooks

_base_ = ["../_base_/transfer2d_indoor.py"]

model = dict(
    type="NormalEstimator",
    backbone=dict(type="TimmBackbone", name="convnext_tiny", drop_path_rate=0.1),
    neck=dict(type="FeaturePyramid", in_channels=(96, 192, 384, 768), in_strides=(4, 8, 16, 32), out_channels=64),
)

hooks = usual_hooks(dict(type="NormalEvaluator"), dict(type="TaskPanelWriter", num_views=8), save_every_minutes=5.0)
