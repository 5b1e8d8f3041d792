# Linear probe of the frozen backbone on segmentation: what its feature maps tell without any further layer.
_base_ = ["./semseg-convnext.py"]

model = dict(
    neck=dict(_delete_=True, type="LinearNeck", in_channels=(96, 192, 384, 768), out_channels=64),
    freeze_backbone=True,
)
