import datetime
import logging
import multiprocessing
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from pointcept.ops.batch_norm import SyncBatchNorm, convert_sync_batch_norm

COUNTS = [(5, 3), (4, 0), (1, 1)]  # rows of each of two processes
OPTIONS = [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}]


def inputs(counts, shape=(3,), offset=100.0):
    """Rows far from zero, where a sum of squares would lose most digits in float32."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(sum(counts), *shape, generator=generator) + offset
    weights = torch.randn(rows.shape, generator=generator)
    return rows.split(counts), weights.split(counts)


def make(norm_class, options):
    norm = norm_class(3, **options)
    if norm.affine:
        norm.load_state_dict({**norm.state_dict(), "weight": torch.tensor([1.0, 2.0, 3.0]), "bias": torch.arange(3.0)})
    return norm


def step(norm, rows, weights):
    """Output and input gradient of one training step, and the parameters' gradients."""
    rows = rows.clone().requires_grad_()
    output = norm(rows)
    (output.sin() * weights).sum().backward()
    return output.detach(), rows.grad, [parameter.grad for parameter in norm.parameters()]


def process(rank, store, results):
    """Runs every case in one of two processes."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=290)
    )
    answers = {}
    for counts in COUNTS:
        for number, options in enumerate(OPTIONS):
            rows, weights = inputs(counts)
            norm = convert_sync_batch_norm(make(nn.BatchNorm1d, options))
            answers[counts, number] = [step(norm, rows[rank], weights[rank]) for _ in range(2)], norm.state_dict()
    rows, weights = inputs((2, 1), (3, 2, 2))
    images = convert_sync_batch_norm(make(nn.BatchNorm2d, {}).double())
    answers["images"] = step(images, rows[rank].double(), weights[rank])
    rows, weights = inputs((5, 3), offset=0.0)
    answers["bfloat16"] = make(SyncBatchNorm, {})(rows[rank].bfloat16())
    torch.save(answers, f"{results}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def answers():
    with tempfile.TemporaryDirectory() as folder:
        # A fresh interpreter per process: a fork would inherit this one's threads.
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=process, args=(rank, f"{folder}/store", folder)) for rank in range(2)]
        for one in processes:
            one.start()
        for one in processes:
            one.join(timeout=300)
            if one.is_alive():
                one.kill()
        assert [one.exitcode for one in processes] == [0, 0]
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


def joined(parts):
    return torch.cat(list(parts))


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("number", range(len(OPTIONS)))
def test_two_processes_give_what_one_gives_on_both_batches_together(answers, counts, number):
    rows, weights = inputs(counts)
    norm = make(nn.BatchNorm1d, OPTIONS[number])
    expected = [step(norm, joined(rows), joined(weights)) for _ in range(2)]
    for index, (output, gradient, parameter_gradients) in enumerate(expected):
        ours = [answers[rank][counts, number][0][index] for rank in range(2)]
        tolerance = {"rtol": 1e-4, "atol": 1e-4}
        torch.testing.assert_close(joined(answer[0] for answer in ours), output, **tolerance)
        torch.testing.assert_close(joined(answer[1] for answer in ours), gradient, **tolerance)
        for k, expected_gradient in enumerate(parameter_gradients):
            torch.testing.assert_close(sum(answer[2][k] for answer in ours), expected_gradient, **tolerance)
    for rank in range(2):
        state = answers[rank][counts, number][1]
        assert list(state) == list(norm.state_dict())
        for name, value in norm.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-5)


def test_images_are_normalised_over_pixels_and_processes(answers):
    rows, weights = inputs((2, 1), (3, 2, 2))
    output, gradient, _ = step(make(nn.BatchNorm2d, {}).double(), joined(rows).double(), joined(weights))
    torch.testing.assert_close(joined(answer["images"][0] for answer in answers), output)
    torch.testing.assert_close(joined(answer["images"][1] for answer in answers), gradient)


def test_half_precision_keeps_its_dtype_and_computes_in_float32(answers):
    rows, _ = inputs((5, 3), offset=0.0)
    expected = make(nn.BatchNorm1d, {})(joined(rows).bfloat16().float())
    output = joined(answer["bfloat16"] for answer in answers)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=1e-2, atol=1e-2)


def test_a_single_process_computes_ordinary_batch_norm():
    rows, weights = inputs((6,))
    for ours, theirs in zip(
        step(make(SyncBatchNorm, {}), rows[0], weights[0])[:2], step(make(nn.BatchNorm1d, {}), rows[0], weights[0])
    ):
        assert torch.equal(ours, theirs)


class Special(nn.BatchNorm1d):
    pass


def test_conversion_keeps_parameters_names_and_mode_and_warns_of_subclasses(caplog):
    model = nn.Sequential(
        nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm3d(3, eps=0.5)), Special(2), nn.LayerNorm(2)
    ).eval()
    before = model.state_dict(keep_vars=True)
    with caplog.at_level(logging.WARNING, logger="pointcept"):
        converted = convert_sync_batch_norm(model)
    assert converted is model
    assert [type(m) for m in (model[0], model[1][0], model[2])] == [SyncBatchNorm, SyncBatchNorm, Special]
    after = model.state_dict(keep_vars=True)
    assert all(after[name] is before[name] for name in before) and list(after) == list(before)
    assert model[1][0].eps == 0.5 and not model[0].training
    assert "Special is a subclass of a batch norm and stays unsynchronised" in caplog.text
    assert type(convert_sync_batch_norm(nn.BatchNorm2d(4))) is SyncBatchNorm


def test_a_missing_channel_axis_is_explained():
    with pytest.raises(ValueError, match=r"takes \(N, C, ...\): got shape \(3,\)"):
        SyncBatchNorm(3)._check_input_dim(torch.zeros(3))
