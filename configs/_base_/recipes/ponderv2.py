# What PonderV2's released indoor code does differently (arXiv 2310.08586), without its labels; `recipe = "ponderv2"` in
# a config, or --options recipe=ponderv2, lays it over the config. docs/pretraining.md has the table of differences.
model = dict(
    length_unit="box",  # lengths below are shares of the longest edge of the scene's box, not metres
    encoder=dict(cube=True, mask=None),
    ray_sampler=dict(num_rays=256, near_m=0.01),
    renderer=dict(
        sample_position="start",
        initial_sharpness=20.1,  # exp(10 * 0.3)
        sampler=dict(_delete_=True, type="NeuSSampler", num_samples=96, num_importance=36, sharpness=64.0),
    ),
    losses=[
        dict(type="ColorLoss", weight=10.0),
        dict(type="DepthLoss", weight=1.0),
        dict(type="SDFLoss", weight=10.0, truncation_m=0.05),
        dict(type="FreeSpaceLoss", weight=1.0, truncation_m=0.05),
        dict(type="EikonalLoss", weight=0.01),
    ],
)

optimizer = dict(_delete_=True, type="SGD", lr=0.002, momentum=0.9, weight_decay=1e-4, nesterov=True)  # 32 scenes
scheduler = dict(_delete_=True, type="OneCycleLR", max_lr=0.002, pct_start=0.05, div_factor=10.0, final_div_factor=1e4)
clip_grad = None
