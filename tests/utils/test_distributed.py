import torch

from pointcept.utils import distributed


def test_a_single_process_needs_no_set_up():
    assert (distributed.get_world_size(), distributed.get_rank()) == (1, 0)
    assert distributed.is_main_process() and not distributed.is_initialized()
    distributed.barrier()
    distributed.shutdown()
    assert distributed.all_gather_objects({"a": 1}) == [{"a": 1}]
    assert distributed.initialize().type in ("cpu", "cuda")


def test_a_sum_over_processes_is_a_new_tensor_without_gradient():
    value = torch.ones(2, requires_grad=True)
    total = distributed.all_reduce_sum(value)
    assert torch.equal(total, value) and total is not value and not total.requires_grad


def test_a_single_process_sees_its_vote_at_once():
    consensus = distributed.Consensus(2)
    assert consensus.vote(False, True) == (False, True)
    assert consensus.vote(True, False) == (True, False)
