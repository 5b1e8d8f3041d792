# The same with the views' labels as one more target: cross-entropy over the 20 benchmark classes. It needs
# rgbd/<scene>/label/. For text embeddings give SemanticLoss embeddings=<safetensors> and feature_channels its width.
_base_ = ["./pretrain-ponder-spunet-v1m1-0-base.py"]

model = dict(
    renderer=dict(field=dict(feature_channels=20)),
    losses=[
        dict(type="ColorLoss", weight=40.0),
        dict(type="DepthLoss", weight=1.0),
        dict(type="SDFLoss", weight=10.0, truncation_m=0.2),
        dict(type="FreeSpaceLoss", weight=1.0, truncation_m=0.2),
        dict(type="EikonalLoss", weight=0.01),
        dict(type="SemanticLoss", weight=0.1, num_classes=20),
    ],
)
data = dict(train=dict(segment_key="segment20"))
