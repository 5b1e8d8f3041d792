"""The nearest-neighbour probe equals a slow twin, in any chunks, and remembers a uniform sample."""

import math

import pytest
import torch

from pointcept.evaluation import NearestNeighborClassifier


def slow_votes(query, memory, target, k, temperature, num_classes):
    """One query at a time, in plain Python."""
    rows = []
    for q in query.tolist():
        similarity = []
        for m, label in zip(memory.tolist(), target.tolist()):
            if label >= 0:
                dot = sum(a * b for a, b in zip(q, m))
                similarity.append((dot / math.hypot(*q) / math.hypot(*m), label))
        nearest = sorted(similarity, reverse=True)[:k]
        weight = [math.exp(value / temperature) for value, _ in nearest]
        rows.append([sum(w for w, (_, c) in zip(weight, nearest) if c == n) / sum(weight) for n in range(num_classes)])
    return torch.tensor(rows)


@pytest.mark.parametrize("chunk_size", [1, 100, 2**24])
def test_votes_equal_a_slow_twin_in_any_chunks(chunk_size):
    generator = torch.Generator().manual_seed(0)
    memory, query = torch.randn(40, 3, generator=generator), torch.randn(25, 3, generator=generator)
    target = torch.randint(-1, 4, (40,), generator=generator)
    classifier = NearestNeighborClassifier(4, k=5, temperature=0.2, chunk_size=chunk_size)
    classifier.add(memory[:15], target[:15])
    classifier.add(memory[15:], target[15:])
    assert classifier.num_features == int((target >= 0).sum())
    torch.testing.assert_close(classifier.votes(query), slow_votes(query, memory, target, 5, 0.2, 4))


def test_by_hand():
    classifier = NearestNeighborClassifier(3, k=2, temperature=1.0)
    classifier.add(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-5.0, 0.0]]), torch.tensor([0, 2, 1]))
    # similarities of (3, 4): 0.6, 0.8, -0.6; the two nearest are of classes 2 and 0
    weight = math.exp(0.8) / (math.exp(0.8) + math.exp(0.6))
    torch.testing.assert_close(classifier.votes(torch.tensor([[3.0, 4.0]])), torch.tensor([[1 - weight, 0.0, weight]]))


def test_what_is_remembered_is_bounded_and_a_uniform_sample():
    counts = torch.zeros(10)
    for seed in range(300):
        classifier = NearestNeighborClassifier(10, k=4, max_features=4, temperature=1e6, seed=seed)
        for start in (0, 3, 8):  # 3, 5 and 2 features
            rows = torch.arange(10)[start : {0: 3, 3: 8, 8: 10}[start]]
            classifier.add(torch.ones(len(rows), 2), rows)
        assert classifier.num_features == 4
        counts += (classifier.votes(torch.ones(1, 2))[0] > 0).float()
    assert counts.sum() == 1200
    assert (counts - 120).abs().max() < 5 * (300 * 0.4 * 0.6) ** 0.5  # five standard deviations


def test_the_same_seed_remembers_the_same():
    feat, target = torch.randn(50, 4), torch.arange(50) % 3
    votes = []
    for _ in range(2):
        classifier = NearestNeighborClassifier(3, max_features=10)
        classifier.add(feat, target)
        votes.append(classifier.votes(feat))
    assert torch.equal(*votes)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"k must be positive: got 0"):
        NearestNeighborClassifier(3, k=0)
    classifier = NearestNeighborClassifier(3)
    with pytest.raises(ValueError, match=r"needs labelled points: none was added"):
        classifier.votes(torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"Classes must lie in -1\.\.2: got 0\.\.7"):
        classifier.add(torch.ones(2, 2), torch.tensor([0, 7]))
    classifier.add(torch.ones(2, 2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"All features must have one width: got 3 after 2"):
        classifier.add(torch.ones(2, 3), torch.tensor([0, 1]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_votes_on_a_gpu_are_those_on_the_cpu():
    feat, target = torch.randn(200, 8), torch.arange(200) % 5 - 1
    votes = []
    for device in ("cpu", "cuda"):
        classifier = NearestNeighborClassifier(4, k=7, max_features=60)
        classifier.add(feat.to(device), target.to(device))
        votes.append(classifier.votes(feat.to(device)).cpu())
    torch.testing.assert_close(*votes, rtol=1e-3, atol=1e-4)
