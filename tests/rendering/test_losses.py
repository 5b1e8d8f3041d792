import math
import re

import pytest
import torch
from safetensors.torch import save_file

from pointcept.registry import LOSSES
from pointcept.rendering import (
    ColorLoss,
    DepthLoss,
    EikonalLoss,
    FeatureCosineLoss,
    FreeSpaceLoss,
    NormalLoss,
    RayContrastLoss,
    RenderingLoss,
    SDFLoss,
    SemanticLoss,
    SmoothnessLoss,
    WeightRamp,
)
from pointcept.rendering.renderer import Rendering
from pointcept.structures import RayBatch, RayTargets

ALL_LOSSES = (ColorLoss, DepthLoss, EikonalLoss, FreeSpaceLoss, NormalLoss, SDFLoss, SmoothnessLoss)


def case(valid: tuple[bool, ...] = (True, True), distance: tuple[float, ...] = (2.0, 1.0), **changes):
    """One scene, two rays, three samples at 0.5, 1.0 and 1.5 m."""
    values = {
        "color": torch.tensor([[[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]]]),
        "distance": torch.tensor([[1.5, 1.25]]),
        "opacity": torch.ones(1, 2),
        "normal": torch.zeros(1, 2, 3),
        "feature": None,
        "sample_distance": torch.tensor([0.5, 1.0, 1.5]).expand(1, 2, 3),
        "sdf": torch.tensor([[[0.4, 0.1, -0.2], [0.05, 0.3, 0.0]]]),
        "gradient": torch.tensor([1.0, 0, 0]).expand(1, 2, 3, 3),
        "weight": torch.full((1, 2, 3), 1 / 3),
    }
    rendering = Rendering(**(values | changes))
    targets = RayTargets(
        color=torch.tensor([[[0.4, 0.2, 0.3], [0.5, 0.2, 0.8]]]),
        distance=torch.tensor([list(distance)]),
        normal=torch.tensor([[[0.0, 0, 1], [0, 1, 0]]]),
    )
    ones = torch.ones(1, 2)
    rays = RayBatch(
        origins=torch.zeros(1, 2, 3),
        directions=torch.zeros(1, 2, 3),
        near=ones,
        far=3 * ones,
        valid=torch.tensor([list(valid)]),
    )
    return rendering, targets, rays


def check(loss, arguments, total: float, count: float) -> None:
    found_total, found_count = loss(*arguments)
    torch.testing.assert_close(found_total, torch.tensor(total), atol=1e-6, rtol=0)
    assert found_count == count


def test_color_by_hand():
    check(ColorLoss(), case(), 0.3 / 3 + 0.6 / 3, 2)
    check(ColorLoss(), case(valid=(True, False)), 0.3 / 3, 1)


def test_depth_by_hand():
    check(DepthLoss(), case(), 0.5 + 0.25, 2)
    check(DepthLoss(), case(distance=(2.0, 0.0)), 0.5, 1)
    check(DepthLoss(), case(valid=(False, True)), 0.25, 1)


def test_surfaces_beyond_the_box_have_no_depth_to_render_but_free_space_before_them():
    rendering, targets, rays = case(distance=(2.0, 4.0))  # the box ends at 3 m
    total, count = DepthLoss()(rendering, targets, rays)
    assert count == 1
    torch.testing.assert_close(total, torch.tensor(0.5))
    _, free = FreeSpaceLoss(truncation_m=0.2)(rendering, targets, rays)
    assert free == 6  # all three samples of both rays


def test_sdf_band_by_hand():
    # Ray 0 (surface at 2.0 m): no sample within 0.4 m. Ray 1 (at 1.0 m): only the sample at 1.0, |1.0 + 0.3 - 1.0|.
    check(SDFLoss(truncation_m=0.4), case(), 0.3, 1)
    # With 0.5 m: ray 0 has |1.5 - 0.2 - 2.0|; ray 1 has |0.5 + 0.05 - 1|, 0.3 and |1.5 + 0 - 1|.
    check(SDFLoss(truncation_m=0.5), case(), 0.7 + 0.45 + 0.3 + 0.5, 4)


def test_free_space_by_hand():
    # Samples before 2.0 - 0.4 (all three of ray 0: 0, 0.3, 0.6) and before 1.0 - 0.4 (one of ray 1: 0.35).
    check(FreeSpaceLoss(truncation_m=0.4), case(), 0.0 + 0.3 + 0.6 + 0.35, 4)


def test_eikonal_by_hand():
    gradient = torch.tensor([[0.0, 3, 4], [1, 0, 0], [0, 0.5, 0]]).expand(1, 2, 3, 3)
    check(EikonalLoss(), case(gradient=gradient, valid=(False, True)), 16.0 + 0.0 + 0.25, 3)


def test_eikonal_has_a_finite_gradient_where_the_field_is_flat():
    gradient = torch.zeros(1, 2, 3, 3, requires_grad=True)
    EikonalLoss()(*case(gradient=gradient))[0].backward()
    assert torch.isfinite(gradient.grad).all()


def test_ray_contrast_by_hand():
    rendering, targets, rays = case(feature=torch.tensor([[[2.0, 0.0], [0.0, 3.0]]]))
    targets = targets.replace(feature=torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))
    # Only ray 0 has a target. Its logits are 1 / 0.5 and 0: -log(e^2 / (e^2 + 1)).
    check(RayContrastLoss(temperature=0.5), (rendering, targets, rays), math.log(1 + math.exp(-2)), 1)


def test_ray_contrast_needs_features():
    with pytest.raises(ValueError, match="needs rendered and target features: got no rendered and no target"):
        RayContrastLoss()(*case())


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_invalid_rays_change_nothing(loss):
    rendering, targets, rays = case(valid=(True, False))
    total, count = loss()(rendering, targets, rays)
    garbage = {
        name: torch.cat((value[:, :1], value[:, 1:] * 0 + float("nan")), dim=1)
        for name, value in vars(rendering).items()
        if value is not None
    }
    again, again_count = loss()(Rendering(**(garbage | {"feature": None})), targets, rays)
    assert torch.equal(total, again) and torch.equal(count, again_count)


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_no_valid_ray_gives_zero_of_nothing(loss):
    total, count = loss()(*case(valid=(False, False)))
    assert total == 0 and count == 0


def test_normal_by_hand():
    rendered = torch.tensor([[[0.0, 0, 0.3], [0, 0.5, 0.5]]])  # their length does not count
    check(NormalLoss(), case(normal=rendered), 0.0 + 1 - math.sqrt(0.5), 2)
    rendering, targets, rays = case(normal=rendered)
    unknown = targets.replace(normal=targets.normal * torch.tensor([[[1.0], [0.0]]]))
    check(NormalLoss(), (rendering, unknown, rays), 0.0, 1)


def test_smoothness_by_hand():
    # SDF of ray 0: 0.4, 0.1, -0.2; of ray 1: 0.05, 0.3, 0. Within 0.25 m: the last two of ray 0, never two of ray 1.
    gradient = torch.tensor([[1.0, 0, 0], [2, 0, 0], [0, 1, 0]]).expand(1, 2, 3, 3)
    check(SmoothnessLoss(band_m=0.25), case(gradient=gradient), 2.0, 1)


def test_feature_cosine_by_hand():
    rendering, targets, rays = case(feature=torch.tensor([[[2.0, 0.0], [0.0, 3.0]]]))
    targets = targets.replace(feature=torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]))
    check(FeatureCosineLoss(), (rendering, targets, rays), 1 - math.sqrt(0.5), 1)


def semantic_case(*segment: int):
    rendering, targets, rays = case(feature=torch.tensor([[[2.0, 0.0], [0.0, 3.0]]]))
    return rendering, targets.replace(segment=torch.tensor([list(segment)])), rays


def test_semantic_by_hand():
    # Ray 0 shows class 0 and is of class 0; logits 2 and 0: log(1 + e^-2). Ray 1 is ignored.
    check(SemanticLoss(num_classes=2, temperature=0.5), semantic_case(0, -1), math.log(1 + math.exp(-2)), 1)
    # Rays of one class do not disturb each other.
    check(SemanticLoss(num_classes=2, temperature=0.5), semantic_case(0, 1), 2 * math.log(1 + math.exp(-2)), 2)


def test_semantic_embeddings_from_a_file(tmp_path):
    path = tmp_path / "classes.safetensors"
    save_file({"embeddings": torch.tensor([[0.0, 5.0], [3.0, 0.0]])}, path)  # the classes swapped, not normalised
    loss = SemanticLoss(embeddings=path, temperature=0.5)
    check(loss, semantic_case(1, 0), 2 * math.log(1 + math.exp(-2)), 2)
    assert not loss.state_dict()


def test_semantic_messages(tmp_path):
    with pytest.raises(ValueError, match="needs either embeddings or num_classes"):
        SemanticLoss()
    with pytest.raises(FileNotFoundError, match=r"nowhere.safetensors does not exist"):
        SemanticLoss(embeddings=tmp_path / "nowhere.safetensors")
    save_file({"a": torch.zeros(2), "b": torch.zeros(2, 2)}, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match="must hold one tensor, of shape"):
        SemanticLoss(embeddings=tmp_path / "two.safetensors")
    with pytest.raises(
        ValueError, match=r"as wide as the class embeddings, 3: got 2. Set the field's feature_channels=3"
    ):
        SemanticLoss(num_classes=3)(*semantic_case(0, 1))
    with pytest.raises(ValueError, match="below the number of class embeddings, 2: got 4"):
        SemanticLoss(num_classes=2)(*semantic_case(4, 1))
    with pytest.raises(ValueError, match="needs rendered features and labels: got no rendered feature and no label"):
        SemanticLoss(num_classes=2)(*case())


def test_features_of_another_width_are_named():
    rendering, targets, rays = case(feature=torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match="one width: got 4 rendered and 3 target channels"):
        FeatureCosineLoss()(rendering, targets.replace(feature=torch.zeros(1, 2, 3)), rays)


def test_missing_normals_and_gradients_are_named():
    rendering, targets, rays = case()
    with pytest.raises(ValueError, match="Set with_normals=True in the RaySampler"):
        NormalLoss()(rendering, targets.replace(normal=None), rays)
    with pytest.raises(ValueError, match="NormalLoss needs rendered normals"):
        NormalLoss()(rendering.replace(normal=None), targets, rays)
    for loss in (EikonalLoss(), SmoothnessLoss()):
        with pytest.raises(ValueError, match="needs the gradient of the SDF: got none"):
            loss(rendering.replace(gradient=None), targets, rays)


def test_ramps_by_hand():
    linear = WeightRamp(1.0, 3.0, begin=0.2, finish=0.6)
    assert [linear(p) for p in (0.0, 0.2, 0.6, 1.0)] == [1.0, 1.0, 3.0, 3.0]
    assert linear(0.3) == pytest.approx(1.5)
    cosine = WeightRamp(0.0, 1.0, shape="cosine")
    assert [cosine(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.0, 0.5, 1.0])
    assert cosine(0.25) == pytest.approx(0.5 - math.sqrt(0.5) / 2)
    with pytest.raises(ValueError, match=r"0 <= begin < finish <= 1: got 0.5 and 0.5"):
        WeightRamp(0.0, 1.0, begin=0.5, finish=0.5)


def test_a_changing_weight_needs_the_progress():
    assert ColorLoss(2.0).weight_at(None) == 2.0
    assert ColorLoss(WeightRamp(0.0, 4.0)).weight_at(0.25) == 1.0
    with pytest.raises(ValueError, match="The weight of color_loss changes over the run"):
        ColorLoss(WeightRamp(0.0, 4.0)).weight_at(None)


TERMS = [
    ColorLoss, DepthLoss, SDFLoss, FreeSpaceLoss, EikonalLoss, NormalLoss, SmoothnessLoss, FeatureCosineLoss,
    RayContrastLoss, SemanticLoss,
]  # fmt: skip


def test_every_term_of_the_toolkit_is_listed_here():
    classes = {LOSSES.get(name) for name in LOSSES.names()}
    assert {one for one in classes if isinstance(one, type) and issubclass(one, RenderingLoss)} == set(TERMS)


@pytest.mark.parametrize("loss", TERMS)
def test_every_term_has_a_unit_a_source_and_its_own_weight_schedule(loss):
    assert re.search(r"metres|no unit|nats", loss.__doc__), "the unit"
    assert re.search(r"PonderV2, eq|\d{4}\.\d{5}", loss.__doc__), "the source"
    options = {"num_classes": 3} if loss is SemanticLoss else {}
    assert loss(weight=WeightRamp(1.0, 3.0), **options).weight_at(0.5) == 2.0
    assert loss(**options).uses_labels == (loss is SemanticLoss)
