"""Point Prompt Training: every data set has its own head, and losses are means over labelled points."""

import pytest
import torch
import torch.nn.functional as F
from toy_scenes import scenes, transformer

from pointcept.datasets.unified_labels import INDOOR36_INDICES
from pointcept.models.backbones import PromptSparseUNet
from pointcept.models.segmentation import (
    CrossEntropyLoss,
    DecoupledHeads,
    DecoupledPromptSegmentor,
    DiceLoss,
    LanguageHeads,
    LanguagePromptSegmentor,
    Segmentor,
)
from pointcept.models.weights import load_weights
from pointcept.rendering.class_tables import ClassTable, write_class_table
from pointcept.structures import PointBatch, SceneBatch

NAMES = ("A", "B", "C")


def prompt_unet(**changes) -> PromptSparseUNet:
    sizes = {"base_channels": 4, "channels": (4, 6, 6, 5), "layers": (1, 1, 1, 1), "context_channels": 7}
    return PromptSparseUNet(3, **{**sizes, "conditions": ("C", "A", "B"), **changes})


def decoupled(**changes) -> DecoupledPromptSegmentor:
    torch.manual_seed(0)
    settings = {"conditions": NAMES, "num_classes": (4, 2, 3)}
    return DecoupledPromptSegmentor(prompt_unet(), **{**settings, **changes})


def mixed(*conditions: str) -> SceneBatch:
    """Two clouds; labels suit the smallest data set."""
    batch = scenes(num_classes=2)
    return batch.replace(points=batch.points.replace(condition=conditions))


def only(batch: SceneBatch, cloud: int) -> SceneBatch:
    points = batch.points
    rows = torch.nonzero(points.batch_index == cloud).squeeze(1)
    part = PointBatch(
        coord=points.coord[rows],
        grid_coord=points.grid_coord[rows],
        feat=points.feat[rows],
        offset=torch.tensor([len(rows)]),
        segment=points.segment[rows],
        condition=(points.condition[cloud],),
    )
    return SceneBatch(seed=batch.seed[cloud : cloud + 1], name=(batch.name[cloud],), points=part)


@pytest.mark.parametrize(("condition", "number"), [("A", 0), ("B", 1), ("C", 2)])
def test_heads_and_norms_train_on_their_own_data_alone(condition, number):
    model = decoupled().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    sum(model(mixed(condition, condition)).values()).backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in changed if name.startswith("seg_heads")} == {
        f"seg_heads.{number}.weight",
        f"seg_heads.{number}.bias",
    }
    norm_of = {"C": 0, "A": 1, "B": 2}[condition]  # the backbone has the data sets in an order of its own
    assert all(f"bns.{norm_of}." in name for name in changed if "bns." in name)
    assert any(f"bns.{norm_of}.running_mean" in name for name in changed)


def test_the_loss_of_a_mixed_batch_is_the_mean_over_its_labelled_points():
    model = decoupled(criteria=[CrossEntropyLoss(), DiceLoss(loss_weight=2.0)])
    model.backbone.eval()  # so that a cloud's features do not depend on its batch mates
    model.training = True
    batch = mixed("A", "C")
    losses = model(batch)
    parts = [only(batch, cloud) for cloud in range(2)]
    counts = [int((part.points.segment >= 0).sum()) for part in parts]
    for name in ("cross_entropy_loss", "dice_loss"):
        expected = sum(model(part)[name] * count for part, count in zip(parts, counts)) / sum(counts)
        torch.testing.assert_close(losses[name], expected)
    features = model.backbone(batch.points).feat
    keep = batch.points.segment >= 0
    values = [
        F.cross_entropy(model.seg_heads[number](features[row]), batch.points.segment[row], reduction="none")
        for row, number in ((r, 0 if r < 60 else 2) for r in torch.nonzero(keep).squeeze(1).tolist())
    ]
    torch.testing.assert_close(losses["cross_entropy_loss"], torch.stack(values).mean())


def test_logits_in_evaluation_are_those_of_each_clouds_head():
    model = decoupled().eval()
    batch = mixed("B", "A")
    logits = model(batch)["logits"]
    features = model.backbone(batch.points).feat
    assert logits.shape == (90, 4)
    torch.testing.assert_close(logits[:60, :2], model.seg_heads[1](features[:60]))
    assert (logits[:60, 2:] == -torch.inf).all() and logits[:60].argmax(dim=1).max() < 2
    torch.testing.assert_close(logits[60:], model.seg_heads[0](features[60:]))
    assert logits[:60].softmax(dim=1).isfinite().all()


@pytest.fixture
def table(tmp_path):
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    write_class_table(tmp_path / "table.safetensors", ClassTable(rows))
    return str(tmp_path / "table.safetensors")


def test_a_language_head_is_a_scaled_cosine_by_hand(table):
    heads = LanguageHeads(2, [[2, 0], [1]], ("A", "B"), table)
    with torch.no_grad():
        heads.proj_head.weight.copy_(torch.eye(2))
        heads.proj_head.bias.zero_()
    feat = torch.tensor([[3.0, 4.0]])  # cosines with the rows: 0.6, 0.8, -0.6
    torch.testing.assert_close(heads.head(feat, 0), torch.tensor([[-60.0, 60.0]]))
    torch.testing.assert_close(heads.head(feat, 1), torch.tensor([[80.0]]))
    assert {name for name, p in heads.named_parameters() if p.requires_grad} == {"proj_head.weight", "proj_head.bias"}


def test_the_rows_of_indoor_data_sets_are_known_and_a_table_is_needed():
    sets = ("structured3d", "scannet20", "s3dis")
    heads = LanguageHeads(4, [INDOOR36_INDICES[name] for name in sets])
    assert [getattr(heads, f"_index_{number}").numel() for number in range(3)] == [25, 20, 13]
    with pytest.raises(ValueError, match=r"needs class embeddings: got none\. Give embeddings="):
        heads.head(torch.ones(1, 4), 0)


def test_pointcepts_checkpoints_of_both_kinds_load_strictly(tmp_path, table):
    """Its context vectors lie beside the backbone, and its class embeddings in the checkpoint."""
    settings = {"conditions": NAMES, "valid_index": [[0, 1], [1, 2], [0, 2]], "embeddings": table}
    language, other_language = (LanguagePromptSegmentor(prompt_unet(), **settings) for _ in range(2))
    for model, other in ((decoupled(), decoupled()), (language, other_language)):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.uniform_(-1, 1)
        weights = {
            f"module.{name.replace('backbone.embedding_table', 'embedding_table')}": value
            for name, value in model.state_dict().items()
        }
        assert "module.embedding_table.weight" in weights
        torch.save({"state_dict": weights}, tmp_path / "ppt.pth")
        load_weights(other, tmp_path / "ppt.pth", strict=True)
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    names = set(language.state_dict())
    assert {"proj_head.weight", "proj_head.bias", "class_embedding", "logit_scale"} <= names
    assert {"seg_heads.0.weight", "seg_heads.2.bias"} <= set(decoupled().state_dict())


def test_in_backbone_mode_it_gives_features_for_another_head():
    model = decoupled(backbone_mode=True)
    segmentor = Segmentor(model, 6).eval()
    batch = mixed("A", "A")
    torch.testing.assert_close(segmentor(batch)["logits"], segmentor.seg_head(model.backbone(batch.points).feat))


def test_messages():
    with pytest.raises(ValueError, match=r"PointBatch.condition\): got none for 2 clouds\. Set condition="):
        heads = DecoupledHeads(3, NAMES, (4, 2, 3))
        heads.rows(scenes().points)
    with pytest.raises(ValueError, match=r"there are heads for \(A, B, C\): got 'a'\. Did you mean 'A'\?"):
        heads.rows(mixed("a", "A").points)
    with pytest.raises(ValueError, match=r"num_classes must be given for each of \['A', 'B', 'C'\]: got \[4, 2\]"):
        DecoupledHeads(3, NAMES, (4, 2))
    with pytest.raises(ValueError, match=r"must have ignore_index=-1, .*: dice_loss has 2\. Leave it out"):
        DecoupledHeads(3, NAMES, (4, 2, 3), criteria=[CrossEntropyLoss(), DiceLoss(ignore_index=2)])
    with pytest.raises(ValueError, match=r"valid_index must hold rows of the class embeddings, 0\.\.35: that of B is"):
        LanguageHeads(3, [[0], [36]], ("A", "B"))
    with pytest.raises(ValueError, match=r"valid_index must be given for each of \['A', 'B'\]: got 1 lists"):
        LanguageHeads(3, [[0]], ("A", "B"))
    with pytest.raises(ValueError, match=r"must know the data sets of the heads: \['D'\] are not among its conditions"):
        DecoupledPromptSegmentor(prompt_unet(), conditions=("A", "D"), num_classes=(2, 2))
    with pytest.raises(ValueError, match=r"must give features: it has num_classes=4\. Set num_classes=0"):
        DecoupledPromptSegmentor(prompt_unet(num_classes=4), conditions=NAMES, num_classes=(4, 2, 3))
    with pytest.raises(ValueError, match=r"backbone_out_channels must be the backbone's 5: got 96"):
        decoupled(backbone_out_channels=96)
    model, batch = decoupled().train(), mixed("A", "B")
    with pytest.raises(ValueError, match=r"A segmentor needs point clouds: the batch of \('a', 'b'\) has none"):
        model(batch.replace(points=None))
    with pytest.raises(ValueError, match=r"Training a segmentor needs labels: the batch of \('a', 'b'\) has none"):
        model(batch.replace(points=batch.points.replace(segment=None)))
    segment = batch.points.segment.clone()
    segment[-1] = 3
    with pytest.raises(ValueError, match=r"Labels must lie in -1\.\.1: 1 of 30 points of .*B in .* have"):
        model(batch.replace(points=batch.points.replace(segment=segment)))


def test_a_transformer_with_prompts_trains_for_several_data_sets():
    torch.manual_seed(0)
    backbone = transformer(pdnorm_bn=True, pdnorm_ln=True, pdnorm_adaptive=True, pdnorm_conditions=NAMES)
    model = DecoupledPromptSegmentor(backbone, conditions=("B", "A"), num_classes=(2, 3)).train()
    sum(model(mixed("A", "B")).values()).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {f"seg_heads.{number}.weight" for number in range(2)} <= trained
    assert "backbone.embedding_table.weight" in trained
    rows = model.backbone.embedding_table.weight.grad.abs().sum(dim=1)
    assert rows[0] > 0 and rows[1] > 0 and rows[2] == 0  # no cloud is of data set C


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_heads_on_a_gpu_give_what_they_give_on_the_cpu():
    model, batch = decoupled().eval(), mixed("A", "C")
    expected = model(batch)["logits"]
    result = model.cuda()(batch.to(torch.device("cuda")))["logits"].cpu()
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-3)
