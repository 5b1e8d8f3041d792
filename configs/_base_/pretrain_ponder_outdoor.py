# Rendering pre-training on driving data: everything but encoder and data set. Lengths are metres.
# The range is that of UniPAD (arXiv 2310.08370), 54 m around the car, given in the car's frame, whose origin is on the
# ground: LiDAR heights of -5..3 m are -3..5 m there.
from pointcept.config.blocks import usual_hooks

_base_ = ["./pretrain_runtime.py"]

model = dict(
    type="Ponder",
    # Half of the rays go through LiDAR points, the others anywhere in the view.
    ray_sampler=dict(type="RaySampler", num_rays=512, near_m=1.0, depth_share=0.5),
    renderer=dict(
        type="NeuSRenderer",
        field=dict(type="SDFField", in_channels=32, hidden_channels=32, geometry_channels=15),
        sampler=dict(type="NeuSSampler", num_samples=72, num_importance=24, sharpness=8.0),
        initial_sharpness=4.0,
        background=dict(type="SkyColor"),
    ),
    losses=[
        dict(type="ColorLoss", weight=10.0),
        dict(type="DepthLoss", weight=0.2),
        dict(type="SDFLoss", weight=2.0, truncation_m=1.0),
        dict(type="FreeSpaceLoss", weight=1.0, truncation_m=1.0),
        dict(type="EikonalLoss", weight=0.01),
    ],
)

hooks = usual_hooks(dict(type="RenderingEvaluator"), dict(type="PanelWriter", num_views=6), save_every_minutes=5.0)
