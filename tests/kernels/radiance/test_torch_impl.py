"""Activations of the density logit."""

import torch

from blocknerf.kernels.radiance.torch_impl import trunc_exp


def test_trunc_exp_equals_exp_up_to_its_limit() -> None:
    logits = torch.tensor([-50.0, -1.0, 0.0, 2.0, 15.0])
    assert torch.allclose(trunc_exp(logits), logits.exp(), rtol=1e-6)
    assert torch.equal(trunc_exp(torch.tensor([16.0, 1e30])), torch.full((2,), 15.0).exp())


def test_trunc_exp_keeps_its_gradient_above_the_limit() -> None:
    logits = torch.tensor([0.0, 14.0, 40.0], requires_grad=True)
    trunc_exp(logits).sum().backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad, torch.tensor([0.0, 14.0, 15.0]).exp())
