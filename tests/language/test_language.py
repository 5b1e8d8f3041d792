"""Class embeddings: prompt ensembles against a slow twin, tables on disk, and a tiny CLIP that is made here."""

import json
import sys

import pytest
import torch
from safetensors import safe_open

from pointcept.datasets.unified_labels import INDOOR36_NAMES
from pointcept.language import INDOOR_TEMPLATES, class_embeddings
from pointcept.language.__main__ import main
from pointcept.language.clip import ClipTextEncoder
from pointcept.rendering.class_tables import read_class_table

NAMES = ("wall", "shower curtain", "sofa")
TEMPLATES = ("a photo of a {}.", "{} here")


def letters(texts: list[str]) -> torch.Tensor:
    """Counts of some letters: an encoder whose results have different lengths and can be followed by hand."""
    return torch.tensor([[float(text.count(letter)) + 0.1 for letter in "aehlorstuw"] for text in texts])


def test_prompts_are_normalised_averaged_per_class_and_normalised_again():
    found = class_embeddings(letters, NAMES, TEMPLATES)
    for row, name in enumerate(NAMES):
        total = torch.zeros(10)
        for template in TEMPLATES:
            one = letters([template.format(name)])[0]
            total += one / one.square().sum().sqrt()
        mean = total / len(TEMPLATES)
        torch.testing.assert_close(found[row], mean / mean.square().sum().sqrt())


def test_a_class_does_not_depend_on_the_others():
    """The mistake of mixing prompts of different classes would show here."""
    alone = class_embeddings(letters, NAMES[1:2], INDOOR_TEMPLATES)
    torch.testing.assert_close(class_embeddings(letters, NAMES, INDOOR_TEMPLATES)[1:2], alone)


def test_the_templates_are_different_prompts_with_one_name():
    assert len(set(INDOOR_TEMPLATES)) == len(INDOOR_TEMPLATES) == 18
    assert all(template.count("{}") == 1 for template in INDOOR_TEMPLATES)
    assert "a photo of a {} in a kitchen." in INDOOR_TEMPLATES and "a painting of a {}." in INDOOR_TEMPLATES


def test_templates_and_classes_are_checked():
    with pytest.raises(ValueError, match="must be classes and templates: got 0 and 18"):
        class_embeddings(letters, ())
    with pytest.raises(ValueError, match=r"must have one \{\} for the name of the class: 'a photo' has not"):
        class_embeddings(letters, NAMES, ("a photo",))


def test_one_hot_tables_need_no_model(tmp_path, capsys):
    path = tmp_path / "tables" / "indoor36.safetensors"
    main(["--classes", "indoor36", "--encoder", "one-hot", "--output", str(path)])
    assert capsys.readouterr().out == f"Wrote 36 x 36 embeddings (one-hot) to {path}.\n"
    table = read_class_table(path)
    assert table.class_names == INDOOR36_NAMES and table.templates is None and table.encoder == "one-hot"
    torch.testing.assert_close(table.embeddings, torch.eye(36))


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """A CLIP model with random weights and a tokenizer of single letters, as ``save_pretrained`` lays them out."""
    transformers = pytest.importorskip("transformers", reason="transformers is in the language extra")
    folder = tmp_path_factory.mktemp("clip") / "tiny-clip"
    text = transformers.CLIPTextConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=48, projection_dim=12, bos_token_id=60, eos_token_id=61,
    )  # fmt: skip
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
    )
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=12)
    transformers.CLIPModel(config).save_pretrained(folder)
    tokens = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz.," for end in ("", "</w>")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    vocabulary |= {"<|startoftext|>": 60, "<|endoftext|>": 61}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return folder


def test_a_table_from_a_clip_folder(tiny_clip, tmp_path):
    names, templates = tmp_path / "names.txt", tmp_path / "templates.txt"
    names.write_text("wall\n\nshower curtain\n sofa\n")
    templates.write_text("a {}.\nthe {} here\n")
    path = tmp_path / "table.safetensors"
    options = ["--classes", str(names), "--templates", str(templates), "--encoder", str(tiny_clip)]
    main([*options, "--output", str(path)])
    table = read_class_table(path)
    assert table.class_names == NAMES and table.templates == ("a {}.", "the {} here")
    assert table.encoder == "CLIP text encoder, tiny-clip"
    with safe_open(path, "pt") as file:
        assert set(file.metadata()) == {"class_names", "templates", "encoder"}

    # The twin: the whole CLIP model, one prompt at a time.
    import transformers

    model = transformers.CLIPModel.from_pretrained(tiny_clip).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tiny_clip)
    for row, name in enumerate(NAMES):
        total = torch.zeros(12)
        for template in ("a {}.", "the {} here"):
            tokens = tokenizer(template.format(name), return_tensors="pt")
            with torch.no_grad():
                hidden = model.text_model(**tokens).pooler_output
                one = model.text_projection(hidden)[0]
            total += one / one.norm()
        torch.testing.assert_close(table.embeddings[row], total / total.norm(), rtol=1e-4, atol=1e-5)
    assert (table.embeddings[0] - table.embeddings[2]).norm() > 1e-3


def test_prompts_longer_than_the_encoder_reads_are_refused(tiny_clip):
    with pytest.raises(ValueError, match="may have at most 48 tokens: the longest of these has 62"):
        ClipTextEncoder(tiny_clip)(["a" * 60])


def test_another_model_and_an_incomplete_folder_are_refused(tiny_clip, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert/config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match=r"must be a CLIP model: .*bert holds a 'bert'"):
        ClipTextEncoder(tmp_path / "bert")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/config.json").write_text((tiny_clip / "config.json").read_text())
    with pytest.raises(FileNotFoundError, match=r"must hold weights and the tokenizer's files: .*empty lacks some"):
        ClipTextEncoder(tmp_path / "empty")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "scanet", "--encoder", "one-hot"], "class_names must be a list or one of scannet20"),
        (["--classes", "scannet20", "--encoder", "no/such"], "must be a local folder with config.json: no/such"),
    ],
)
def test_the_command_explains_what_is_wrong(options, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        main([*options, "--output", str(tmp_path / "table.safetensors")])
    assert not (tmp_path / "table.safetensors").exists()


def test_a_missing_package_is_named(tiny_clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"need the package transformers.*pip install pointcept\[language\]"):
        ClipTextEncoder(tiny_clip)
