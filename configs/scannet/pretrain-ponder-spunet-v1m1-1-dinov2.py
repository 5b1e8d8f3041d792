# The same with dense features of a frozen DINOv2 as one more target: maps of 18 x 24 patches, made on the fly.
# To make them once: python -m pointcept.cache_features -c scannet/pretrain-ponder-spunet-v1m1-1-dinov2 -f data/dinov2,
# and add dict(type="LoadFeatureMaps", folder="data/dinov2") to the transforms.
_base_ = ["./pretrain-ponder-spunet-v1m1-0-base.py"]

model = dict(
    teacher=dict(type="TimmTeacher", name="vit_small_patch14_reg4_dinov2", image_size=(252, 336)),
    renderer=dict(field=dict(feature_channels=384)),
    losses=[
        dict(type="ColorLoss", weight=40.0),
        dict(type="DepthLoss", weight=1.0),
        dict(type="SDFLoss", weight=10.0, truncation_m=0.2),
        dict(type="FreeSpaceLoss", weight=1.0, truncation_m=0.2),
        dict(type="EikonalLoss", weight=0.01),
        dict(type="FeatureCosineLoss", weight=1.0),
    ],
)
