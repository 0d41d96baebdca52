"""The optimizer does what the paper and PyTorch do."""

import jax.numpy as jnp
import numpy as np
import optax
import torch

from bertjax.tasks import make_model, parameter_shapes
from bertjax.training.optimizer import decay_mask, learning_rate_schedule, make_optimizer
from bertjax.training.options import Optimizer
from tests.conftest import TINY


def test_schedule_rises_and_falls_linearly():
    schedule = learning_rate_schedule(Optimizer(learning_rate=1.0, warmup=0.2), total_steps=10)
    rates = [float(schedule(step)) for step in range(11)]
    np.testing.assert_allclose(rates, [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0], atol=1e-6)
    assert float(learning_rate_schedule(Optimizer(learning_rate=1.0, warmup=0.0), 4)(0)) == 1.0


def test_biases_and_layer_norms_are_not_decayed():
    mask = decay_mask(parameter_shapes(make_model(TINY, "classification", ("a", "b"))))
    assert mask["bert/embeddings/word"] == {"embeddings": True}
    assert mask["bert/layer_0/attention/query"] == {"w": True, "b": False}
    assert mask["bert/layer_0/output_norm"] == {"scale": False, "offset": False}


def test_ten_steps_equal_torch_adamw_with_clipping():
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    settings = Optimizer(learning_rate=0.1, warmup=0.2, weight_decay=0.3, clip_norm=0.5)
    optimizer, schedule = make_optimizer(settings, 10), learning_rate_schedule(settings, 10)

    params = {"layer": {"w": jnp.asarray(weight), "b": jnp.asarray(bias)}}
    state = optimizer.init(params)
    torch_w, torch_b = (torch.nn.Parameter(torch.tensor(value)) for value in (weight, bias))
    groups = [{"params": [torch_w], "weight_decay": 0.3}, {"params": [torch_b], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.1, eps=settings.eps)

    for step in range(10):
        grads = {"w": rng.normal(size=(4, 3)).astype(np.float32), "b": rng.normal(size=3).astype(np.float32)}
        updates, state = optimizer.update({"layer": grads}, state, params)
        params = optax.apply_updates(params, updates)
        torch_w.grad, torch_b.grad = torch.tensor(grads["w"]), torch.tensor(grads["b"])
        torch.nn.utils.clip_grad_norm_([torch_w, torch_b], 0.5)
        for group in reference.param_groups:
            group["lr"] = float(schedule(step))
        reference.step()

    # torch adds 1e-6 to the norm when it clips, so the clipped gradients differ in the seventh digit
    np.testing.assert_allclose(params["layer"]["w"], torch_w.detach().numpy(), atol=2e-5)
    np.testing.assert_allclose(params["layer"]["b"], torch_b.detach().numpy(), atol=2e-5)
