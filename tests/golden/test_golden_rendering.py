"""The renderer against PonderV2's: outputs, losses, and gradients to the volume and every parameter."""

import pytest
import torch
from golden_data import GoldenFile, golden_paths, load_golden, relative_error

from pointcept.rendering import (
    ColorLoss,
    DepthLoss,
    EikonalLoss,
    ErrorBoundedSampler,
    FreeSpaceLoss,
    NeuSRenderer,
    NeuSSampler,
    RayContrastLoss,
    SDFField,
    SDFLoss,
    VolSDFWeighting,
    VolumeRenderer,
)
from pointcept.rendering.rays import intersect_box
from pointcept.structures import FeatureVolume, RayBatch, RayTargets

OUTPUTS = {
    "rgb": "color",
    "depth": "distance",
    "normal": "normal",
    "semantic": "feature",
    "sdf": "sdf",
    "gradients": "gradient",
    "weights": "weight",
    "z_vals": "sample_distance",
}
DECODERS = {"sdf_decoder": "sdf_decoder", "color_decoder": "rgb_decoder", "feature_decoder": "semantic_decoder"}


def build_renderer(golden: GoldenFile) -> tuple[VolumeRenderer, dict[str, str]]:
    """The renderer a golden file describes, with its weights, and the reference's name of each parameter."""
    config = golden.arguments["config"]
    field, sampler = config["field"], config["sampler"]
    factors = {field[name]["points_factor"] for name in DECODERS.values() if field[name]}
    assert len(factors) == 1 and not field["norm_pts"] and field["padding_mode"] == "zeros"
    semantic = field["semantic_decoder"]
    sdf_field = SDFField(
        golden["input.volume"].shape[0],
        hidden_channels=field["sdf_decoder"]["hidden_size"],
        geometry_channels=field["sdf_decoder"]["out_dim"] - 1,
        sdf_blocks=field["sdf_decoder"]["n_blocks"],
        color_blocks=field["rgb_decoder"]["n_blocks"],
        feature_channels=semantic["out_dim"] if semantic else 0,
        feature_blocks=semantic["n_blocks"] if semantic else 0,
        share_volume=field["share_volume"],
        position_factor=factors.pop(),
    )
    names = {}
    for ours, theirs in DECODERS.items():
        decoder = getattr(sdf_field, ours)
        if decoder is None:
            continue
        depth = len(decoder.layers)
        for kind in ("weight", "bias"):
            for index in range(depth + 1):
                names[f"field.{ours}.inputs.{index}.{kind}"] = f"field.{theirs}.fc_c.{index}.{kind}"
                layer = f"layers.{index}" if index < depth else "head"
                names[f"field.{ours}.{layer}.{kind}"] = f"field.{theirs}.lin{index}.{kind}"
            if decoder.position is not None:
                names[f"field.{ours}.position.{kind}"] = f"field.{theirs}.fc_p.{kind}"
    if config["type"] == "VolSDFModel":
        names["weighting.raw_beta"] = "field.laplace_density.beta"
        bounded = ErrorBoundedSampler(
            sampler["num_samples"],
            sampler["num_samples_eval"],
            sampler["num_samples_extra"],
            error=sampler["eps"],
            num_bisections=sampler["beta_iters"],
            num_rounds=sampler["max_total_iters"],
        )
        weighting = VolSDFWeighting(min_beta_m=float(golden["state.field.laplace_density.beta_min"]))
        renderer = VolumeRenderer(sdf_field, bounded, weighting, sample_position="start")
    else:
        names["weighting.log_sharpness"] = "field.deviation_network.variance"
        importance = NeuSSampler(sampler["num_samples"], sampler["num_samples_importance"])
        renderer = NeuSRenderer(sdf_field, importance, sample_position="start")
    shapes = {name: value.shape for name, value in renderer.state_dict().items()}
    renderer.load_state_dict(
        {name: golden[f"state.{theirs}"].reshape(shapes[name]) for name, theirs in names.items()}, strict=True
    )
    return renderer, names


def golden_rays(golden: GoldenFile) -> RayBatch:
    origins, directions = golden["input.ray_origins"][None], golden["input.ray_directions"][None]
    collider = golden.arguments["config"]["collider"]
    box = torch.tensor(collider["bbox"], dtype=torch.float32).reshape(1, 2, 3)
    # The reference adds 1e-6 to the directions before it divides by them, which decides on which side of a voxel's
    # face samples fall that lie on it but for rounding.
    near, far, hit = intersect_box(origins, directions + 1e-6, box, collider["near_plane"])
    return RayBatch(origins=origins, directions=directions, near=near, far=far, valid=hit)


def golden_losses(golden: GoldenFile) -> dict:
    config = golden.arguments["config"]["loss"]
    weight, truncation = config["weights"], config["sensor_depth_truncation"]
    return {
        "rgb_loss": ColorLoss(weight["rgb_loss"]),
        "depth_loss": DepthLoss(weight["depth_loss"]),
        "sdf_loss": SDFLoss(weight["sdf_loss"], truncation_m=truncation),
        "free_space_loss": FreeSpaceLoss(weight["free_space_loss"], truncation_m=truncation),
        "eikonal_loss": EikonalLoss(weight["eikonal_loss"]),
        "semantic_loss": RayContrastLoss(weight["semantic_loss"], temperature=config["temperature"]),
    }


@pytest.mark.golden
@pytest.mark.parametrize("path", golden_paths("render_"), ids=lambda path: path.stem)
@pytest.mark.parametrize("piece_size", [None, 512])
def test_renders_and_learns_like_the_reference(path, piece_size):
    golden = load_golden(path)
    renderer, names = build_renderer(golden)
    renderer.piece_size = piece_size
    features = golden["input.volume"][None].clone().requires_grad_()
    # The reference's box joins the outermost voxel centres; ours is bounded by their outer faces.
    half_voxel = 0.5 / (torch.tensor(features.shape[:1:-1]) - 1)
    volume = FeatureVolume(features, torch.stack((-half_voxel, 1 + half_voxel))[None])
    rays = golden_rays(golden)
    rendering = renderer(volume, rays, None)
    errors = {
        name: relative_error(getattr(rendering, ours), golden[f"output.{name}"])
        for name, ours in OUTPUTS.items()
        if f"output.{name}" in golden.tensors
    }
    assert len(errors) >= 7 and max(errors.values()) < 1e-4, errors

    targets = RayTargets(
        color=golden["target.rgb"][None],
        distance=golden["target.depth"][None, :, 0],
        feature=golden["target.semantic"][None] if "target.semantic" in golden.tensors else None,
    )
    total = torch.zeros(())
    for name, loss in golden_losses(golden).items():
        if f"loss.{name}" not in golden.tensors:
            continue
        loss_sum, count = loss(rendering, targets, rays)
        value = loss.weight * loss_sum / count
        assert relative_error(value, golden[f"loss.{name}"]) < 1e-3, name
        total = total + value
    total.backward()

    parameters = dict(renderer.named_parameters())
    errors = {name: relative_error(parameters[name].grad, golden[f"grad.{names[name]}"]) for name in names}
    errors["volume"] = relative_error(features.grad, golden["grad.volume"])
    assert max(errors.values()) < 1e-3, errors
    unused = {name for name in golden.group("grad") if name != "volume"} - set(names.values())
    assert all(not golden[f"grad.{name}"].any() for name in unused), unused
