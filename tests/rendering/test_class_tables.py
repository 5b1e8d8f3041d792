"""Tables of class embeddings: what is written is read back, and a wrong table is refused by name."""

import pytest
import torch
from safetensors.torch import save_file

from pointcept.datasets import ConcatDataset
from pointcept.datasets.labels import SCANNET20_NAMES
from pointcept.datasets.unified_labels import INDOOR36_NAMES
from pointcept.engines.trainer import require_known_classes
from pointcept.rendering.class_tables import ClassTable, read_class_table, require_same_classes, write_class_table
from pointcept.rendering.feature_losses import SemanticLoss


class Labelled(torch.utils.data.Dataset):
    """A data set of which only the names of its labels matter."""

    def __init__(self, names):
        self.class_names = names

    def __len__(self):
        return 1


def test_a_table_comes_back_with_its_facts(tmp_path):
    table = ClassTable(torch.tensor([[3.0, 4], [0, 2]]), ("wall", "ein Stuhl ♥"), ("a {}.",), "by hand")
    write_class_table(tmp_path / "new/table.safetensors", table)
    found = read_class_table(tmp_path / "new/table.safetensors")
    torch.testing.assert_close(found.embeddings, table.embeddings)
    assert found[1:] == table[1:]


def test_a_table_without_names_is_legal(tmp_path):
    save_file({"anything": torch.eye(3, dtype=torch.float16)}, tmp_path / "plain.safetensors")
    found = read_class_table(tmp_path / "plain.safetensors")
    torch.testing.assert_close(found.embeddings, torch.eye(3))
    assert found[1:] == (None, None, None)


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.safetensors does not exist.*python -m pointcept.language"):
        read_class_table(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no table")
    with pytest.raises(ValueError, match=r"text.safetensors must be a safetensors file"):
        read_class_table(tmp_path / "text.safetensors")
    save_file({"a": torch.eye(2), "b": torch.eye(2)}, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match=r"two.safetensors must hold one tensor, of shape \(classes, D\)"):
        read_class_table(tmp_path / "two.safetensors")
    save_file({"a": torch.tensor([[1.0, 0], [0, 0], [float("nan"), 1]])}, tmp_path / "zero.safetensors")
    with pytest.raises(ValueError, match=r"zero.safetensors must have a finite embedding.*2 of 3 rows are not"):
        read_class_table(tmp_path / "zero.safetensors")
    for names in (("a",), ("a", "a")):
        with pytest.raises(ValueError, match="The table must name each of its 2 classes once"):
            write_class_table(tmp_path / "names.safetensors", ClassTable(torch.eye(2), names))


def test_a_permuted_table_is_refused_with_the_first_difference():
    require_same_classes(("wall", "floor"), ["wall", "floor"], "The table")
    with pytest.raises(ValueError, match="label 1 is 'door' in it and 'floor' in the data set"):
        require_same_classes(("wall", "door", "floor"), ("wall", "floor", "door"), "The table")
    with pytest.raises(ValueError, match="it has 1 and the data set 2, and label 1 is none in it and 'floor' in"):
        require_same_classes(("wall",), ("wall", "floor"), "The table")


def test_a_loss_must_name_the_classes_of_the_data_set(tmp_path):
    path = tmp_path / "scannet20.safetensors"
    write_class_table(path, ClassTable(torch.eye(20), SCANNET20_NAMES))
    model = torch.nn.ModuleDict({"losses": torch.nn.ModuleList([SemanticLoss(embeddings=path)])})
    require_known_classes(model, Labelled(SCANNET20_NAMES))
    require_known_classes(model, Labelled(None))
    require_known_classes(torch.nn.ModuleList([SemanticLoss(num_classes=3)]), Labelled(SCANNET20_NAMES))
    message = r"SemanticLoss \(model.losses.0\) must have the classes of the data set.*has 20 and the data set 36"
    with pytest.raises(ValueError, match=message):
        require_known_classes(model, Labelled(INDOOR36_NAMES))
    with pytest.raises(ValueError, match=message):
        require_known_classes(model, ConcatDataset([Labelled(SCANNET20_NAMES), Labelled(INDOOR36_NAMES)]))
