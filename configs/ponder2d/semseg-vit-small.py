# ViT-S/16 instead of ConvNeXt-T; everything else is the same.
_base_ = ["./semseg-convnext.py"]

model = dict(
    backbone=dict(_delete_=True, type="TimmBackbone", name="vit_small_patch16_224", drop_path_rate=0.1),
    neck=dict(in_channels=(384, 384, 384, 384), in_strides=(16, 16, 16, 16), out_stride=4),
)

optimizer = dict(type="AdamW", lr=5e-4, weight_decay=0.05)
scheduler = dict(type="OneCycleLR", max_lr=5e-4, pct_start=0.1, div_factor=10.0, final_div_factor=100.0)
