"""What Ponder compares the rendering with: teachers, classes, both; labels; and the unit of length."""

import pytest
import torch
from safetensors.torch import save_file
from test_ponder import PointwiseBackbone, make_batch

from pointcept.models.encoders import PointVolumeEncoder, ProjectionUNet
from pointcept.models.pretraining import Ponder, TimmTeacher
from pointcept.rendering import (
    ColorLoss,
    DepthLoss,
    EikonalLoss,
    FeatureCosineLoss,
    NeuSRenderer,
    NeuSSampler,
    RayContrastLoss,
    RaySampler,
    SDFField,
    SDFLoss,
    SemanticLoss,
    UniformSampler,
)
from pointcept.rendering.feature_maps import read_feature_maps

TEACHER = {"name": "resnet10t", "image_size": (32, 32), "random_weights": True, "out_index": 1}  # 64 channels, stride 4


def make_model(losses, feature_channels: int, teacher: TimmTeacher | None = None, **options) -> Ponder:
    torch.manual_seed(0)
    encoder = PointVolumeEncoder(PointwiseBackbone(3, 6), ProjectionUNet(6, 8, channels=(4, 8)), grid_shape=(8, 8, 4))
    field = SDFField(8, hidden_channels=8, geometry_channels=3, feature_channels=feature_channels)
    renderer = NeuSRenderer(field, NeuSSampler(8, 4))
    return Ponder(encoder, renderer, losses, RaySampler(num_rays=6), render_chunk=50, teacher=teacher, **options)


def labelled(batch, num_classes: int = 5):
    segment = torch.randint(-1, num_classes, batch.cameras.depth.shape, generator=torch.Generator().manual_seed(2))
    return batch.replace(cameras=batch.cameras.replace(segment=segment))


def test_a_teacher_is_a_target_and_no_part_of_the_model():
    model, batch = make_model((ColorLoss(), FeatureCosineLoss(2.0)), 64, TimmTeacher(**TEACHER)), make_batch()
    terms = model(batch)
    sum(terms.values()).backward()
    gradient = model.renderer.field.feature_decoder.head.weight.grad
    assert torch.isfinite(gradient).all() and gradient.any()
    network = model.teacher._network
    ours = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    assert not any(id(tensor) for tensor in network.parameters() if id(tensor) in ours or tensor.grad is not None)
    assert not any("teacher" in name for name in model.state_dict())
    assert not model.train().teacher._network.training, "train() does not reach it"

    # The term by hand: cosine of what is rendered and what the maps say at the pixels of the rays.
    with torch.no_grad():
        volume = model.encoder(batch)
        rays, targets = model.ray_sampler(batch.cameras, volume.box, batch.seed)
        rendering = model.renderer(volume, rays, batch.seed, targets.distance)
        target = read_feature_maps(model.feature_targets(batch.cameras), targets.pixel, batch.cameras.size_px)
        cosine = torch.cosine_similarity(rendering.feature, target, dim=-1)[rays.valid]
    torch.testing.assert_close(terms["feature_cosine_loss"].detach(), 2 * (1 - cosine).mean())


def test_pixels_of_rays_are_those_of_their_colours():
    batch = make_batch()
    model = make_model((ColorLoss(),), 0)
    _, targets = model.ray_sampler(batch.cameras, model.encoder(batch).box, batch.seed)
    view, column, row = targets.pixel.unbind(-1)
    for scene in range(2):
        expected = batch.cameras.image[scene, view[scene], :, row[scene], column[scene]]
        assert torch.equal(targets.color[scene], expected)


def test_classes_and_a_teacher_are_rendered_at_once_by_one_head():
    teacher, batch = TimmTeacher(**TEACHER), labelled(make_batch())
    both = make_model((SemanticLoss(num_classes=5), FeatureCosineLoss()), 5 + 64, teacher)
    assert both.feature_parts == {"class": slice(0, 5), "teacher": slice(5, 69)}
    terms = both(batch)
    for index, (loss, channels) in enumerate(((SemanticLoss(num_classes=5), 5), (FeatureCosineLoss(), 64))):
        alone = make_model((loss,), channels, teacher if index else None)
        weights = both.state_dict()
        part = both.feature_parts["teacher" if index else "class"]
        for name in ("head.weight", "head.bias"):
            weights[f"renderer.field.feature_decoder.{name}"] = weights[f"renderer.field.feature_decoder.{name}"][part]
        alone.load_state_dict(weights)
        torch.testing.assert_close(alone(batch)[loss.name], terms[loss.name])


def test_what_the_head_renders_must_be_what_the_losses_compare():
    teacher = TimmTeacher(**TEACHER)
    with pytest.raises(ValueError, match=r"what the losses compare, \{'class': 5, 'teacher': 64\}: got 64\. Set .*=69"):
        make_model((SemanticLoss(num_classes=5), FeatureCosineLoss()), 64, teacher)
    with pytest.raises(ValueError, match=r"what the losses compare, nothing: got 7\. Set feature_channels=0"):
        make_model((ColorLoss(),), 7)
    with pytest.raises(ValueError, match="FeatureCosineLoss needs a teacher: got none"):
        make_model((FeatureCosineLoss(),), 64)
    with pytest.raises(ValueError, match=r"A teacher needs a loss that compares with it: got \['color_loss'\]"):
        make_model((ColorLoss(),), 0, teacher)


def test_an_embedding_table_of_the_wrong_width_is_refused_when_the_model_is_built(tmp_path):
    save_file({"table": torch.randn(5, 12)}, tmp_path / "classes.safetensors")
    loss = SemanticLoss(embeddings=tmp_path / "classes.safetensors")
    with pytest.raises(ValueError, match=r"\{'class': 12\}: got 16\. Set feature_channels=12"):
        make_model((loss,), 16)
    with pytest.raises(ValueError, match=r"compare with class features of one width: got \[5, 12\]"):
        make_model((loss, RayContrastLoss(num_classes=5)), 12)


def test_contrast_between_rays_can_use_the_embeddings_of_their_classes():
    batch = labelled(make_batch())
    model = make_model((RayContrastLoss(1.0, temperature=0.5, num_classes=5),), 5)
    term = model(batch)["feature_loss"]
    with torch.no_grad():
        volume = model.encoder(batch)
        rays, targets = model.ray_sampler(batch.cameras, volume.box, batch.seed)
        rendered = torch.nn.functional.normalize(
            model.renderer(volume, rays, batch.seed, targets.distance).feature, dim=-1
        )
        target = torch.zeros_like(rendered)
        for place in (targets.segment >= 0).nonzero().tolist():
            target[(*place, int(targets.segment[tuple(place)]))] = 1
        logits = rendered.flatten(0, 1) @ target.flatten(0, 1).T / 0.5
        per_ray = logits.logsumexp(dim=1) - logits.diagonal()
        expected = per_ray[(rays.valid & (targets.segment >= 0) & (targets.distance > 0)).flatten()].mean()
    torch.testing.assert_close(term.detach(), expected)


def test_the_log_says_whether_labels_are_used():
    assert make_model((ColorLoss(), DepthLoss(0.5)), 0).describe_targets() == (
        "Rendering losses: color_loss (10), depth_loss (0.5). No labels are used."
    )
    model = make_model((RayContrastLoss(num_classes=5), SemanticLoss(num_classes=5)), 5)
    assert model.describe_targets().endswith("Labels are used, by feature_loss and semantic_loss.")
    model.encoder.point_heads = torch.nn.Identity()
    assert model.describe_targets().endswith("by feature_loss and semantic_loss and the encoder.")
    model = make_model((FeatureCosineLoss(),), 64, TimmTeacher(**TEACHER))
    assert model.describe_targets().endswith(
        "No labels are used. Teacher: resnet10t, map 1 of images of (32, 32), random weights."
    )


def test_rendered_features_and_target_maps_can_be_looked_at():
    model, batch = make_model((FeatureCosineLoss(),), 64, TimmTeacher(**TEACHER)).eval(), make_batch()
    with torch.no_grad():
        volume = model.encoder(batch)
    output = model.render_views(volume, batch.cameras, with_feature=True)
    assert output["feature"].shape == (2, 2, 64, 6, 8) and "feature" not in model(batch)
    assert model.feature_targets(batch.cameras).shape == (2, 2, 64, 8, 8)
    plain = make_model((ColorLoss(),), 0).eval()
    assert plain.feature_targets(batch.cameras) is None
    with pytest.raises(ValueError, match="needs a field with feature_channels"):
        plain.render_views(volume, batch.cameras, with_feature=True)


def test_in_units_of_the_box_losses_do_not_depend_on_the_size_of_the_world():
    """Twice the world gives the same losses, and twice the depth; in metres the losses change."""
    batch = make_batch()
    extrinsic = batch.cameras.extrinsic.clone()
    extrinsic[..., :3, 3] *= 2
    large = batch.replace(
        points=batch.points.replace(coord=batch.points.coord * 2),
        cameras=batch.cameras.replace(depth=batch.cameras.depth * 2, extrinsic=extrinsic),
    )
    losses = (DepthLoss(), SDFLoss(truncation_m=0.1), EikonalLoss())
    for unit, is_equal in (("box", True), ("metre", False)):
        model = make_model(losses, 0, length_unit=unit)
        model.renderer.sampler = UniformSampler(12)
        model.encoder.padding_m = 0.0
        one, two = model(batch), model(large)
        same = [torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-5) for name in one]
        assert all(same) if is_equal else not any(same)
    model = make_model(losses, 0, length_unit="box").eval()
    model.encoder.padding_m = 0.0
    torch.testing.assert_close(model(large)["depth"], 2 * model(batch)["depth"], rtol=1e-3, atol=1e-4)
    sdf, origin = model.sample_sdf(model.encoder(batch), 0, 0.5)
    sdf_large, origin_large = model.sample_sdf(model.encoder(large), 0, 1.0)
    torch.testing.assert_close(origin_large, 2 * origin)
    torch.testing.assert_close(sdf_large[:2, :2, :2], 2 * sdf[:2, :2, :2], rtol=1e-3, atol=1e-4)
