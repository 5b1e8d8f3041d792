# ResNet-50 instead of ConvNeXt-T; everything else is the same.
_base_ = ["./pretrain-ponder-convnext.py"]

model = dict(
    encoder=dict(
        backbone=dict(_delete_=True, type="TimmBackbone", name="resnet50"),
        neck=dict(in_channels=(256, 512, 1024, 2048), in_strides=(4, 8, 16, 32)),
    ),
)
