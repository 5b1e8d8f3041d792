import pytest
import timm
import torch
from torch import nn

from pointcept import create_model
from pointcept.export import export
from ponder2d.backbones import TimmBackbone


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "test_vit", "swin_tiny_patch4_window7_224"])
def test_the_exported_backbone_loads_strictly_in_timm(tmp_path, name):
    torch.manual_seed(0)
    backbone = TimmBackbone(name)
    model = nn.ModuleDict({"encoder": nn.ModuleDict({"backbone": backbone, "neck": nn.Linear(2, 2)})})
    # As in a run that started from timm's weights: the export must not need them again.
    part = dict(type="TimmBackbone", name=name, pretrained=True)
    config = dict(
        imports=["ponder2d"], model=dict(type="Ponder", encoder=dict(type="ImageVolumeEncoder", backbone=part))
    )
    torch.save({"state_dict": model.state_dict()}, tmp_path / "run.pth")
    export(tmp_path / "run.pth", tmp_path / "backbone.safetensors", config=config)

    plain = timm.create_model(name, num_classes=0, checkpoint_path=str(tmp_path / "backbone.safetensors"))
    assert list(plain.state_dict()) and plain.state_dict().keys() == backbone.state_dict().keys()
    assert all(torch.equal(value, backbone.state_dict()[key]) for key, value in plain.state_dict().items())
    with pytest.raises(RuntimeError, match="Missing key"):  # strict: a classifier that the file lacks is not made up
        timm.create_model(name, num_classes=5, checkpoint_path=str(tmp_path / "backbone.safetensors"))

    again = create_model(pretrained=tmp_path / "backbone.safetensors")
    image = torch.rand(1, 3, 64, 64)
    for first, second in zip(again.eval()(image), backbone.eval()(image), strict=True):
        assert torch.equal(first, second)
