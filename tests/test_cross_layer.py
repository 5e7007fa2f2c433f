# SPDX-License-Identifier: MIT
"""The layer `CrossSelectiveScan` and the model `MambaNO2d`."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate, layer_norm, linear, silu, softplus

from ssno_kernels import CROSS_2D, CROSS_3D, cross_merge, cross_scan, selective_scan, use_backend
from ssno_kernels.models import MambaNO2d
from ssno_kernels.models.mambano import DropPath
from ssno_kernels.nn import CrossSelectiveScan
from ssno_kernels.nn.cross_selective_scan import PlainActivation, _scaled, alias_free_gate
from ssno_kernels.nn.stencil import stencil


@pytest.fixture(autouse=True)
def composite():
    """No kernel is tested here, and none need be there."""
    with use_backend("composite"):
        yield


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def plain_layer(layer: CrossSelectiveScan, x: torch.Tensor) -> torch.Tensor:
    """The same from K copies of the image, permuted and flipped, and one 1-D scan of them all."""
    grid = x.shape[2:]
    h, z = linear(x.permute(0, 2, 3, 1), layer.in_proj.weight).permute(0, 3, 1, 2).chunk(2, dim=1)
    h = layer.activation(layer.conv(h))
    rows = cross_scan(h)  # (B, K, D, L)
    maps = layer.x_proj.weight.unflatten(0, (len(CROSS_2D), -1))
    projected = torch.einsum("kpd,bkdl->bkpl", maps, rows)
    delta, B, C = projected.split([layer.rank, layer.states, layer.states], dim=2)
    step = torch.einsum("kdr,bkrl->bkdl", layer.delta_weight, delta)
    step = softplus(step + layer.delta_bias[:, :, None])
    y = selective_scan(
        rows.flatten(1, 2), step.flatten(1, 2), -layer.A_log.exp().flatten(0, 1), B, C,
        layer.D.flatten(), backend="reference",
    )  # fmt: skip
    y = cross_merge(y.unflatten(1, rows.shape[1:3]).unflatten(-1, grid)).mT
    y = layer_norm(y, y.shape[-1:], layer.norm.weight, layer.norm.bias).unflatten(1, grid)
    return linear(y * alias_free_gate(z).permute(0, 2, 3, 1), layer.out_proj.weight).movedim(-1, 1)


@pytest.mark.parametrize("channels", [4, 20], ids=["rank-1", "rank-2"])
def test_layer_is_what_is_written_with_copies(channels):
    torch.manual_seed(0)
    layer = CrossSelectiveScan(channels, states=3).double()
    x = torch.randn(2, channels, 3, 5, dtype=torch.float64, requires_grad=True)
    out, expected = layer(x), plain_layer(layer, x)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    wanted = (x, *layer.parameters())
    v = torch.randn_like(out)
    for a, b in zip(
        torch.autograd.grad(out, wanted, v), torch.autograd.grad(expected, wanted, v), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_layer_begins_as_mamba_does():
    layer = CrossSelectiveScan(8)
    step = softplus(layer.delta_bias)
    assert step.min() >= 1e-3 and step.max() <= 0.1 + 1e-6
    torch.testing.assert_close(layer.A_log.exp()[0, 0], torch.arange(1.0, 17.0))
    assert (layer.D == 1).all()
    assert layer.rank == 1 and CrossSelectiveScan(17).rank == 2


@pytest.mark.parametrize("alias_free", [True, False])
@pytest.mark.parametrize(
    "axes, grid, traversals, count",
    [(1, (9,), None, 2), (2, (5, 4), None, 4), (3, (2, 3, 4), CROSS_3D[:2], 2)],
)
def test_grids_of_one_to_three_axes(axes, grid, traversals, count, alias_free):
    layer = CrossSelectiveScan(3, axes=axes, states=2, traversals=traversals, alias_free=alias_free)
    assert layer.A_log.shape[0] == count
    out = layer(torch.randn(2, 3, *grid))
    assert out.shape == (2, 3, *grid)
    out.square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in layer.parameters())


def test_three_axes_have_twelve_traversals_unless_told_otherwise():
    assert CrossSelectiveScan(2, axes=3).A_log.shape[0] == 12


def test_gate_axis_by_axis_is_the_gate_of_an_image():
    z = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    together = interpolate(z, size=(12, 10), mode="bicubic", antialias=True)
    torch.testing.assert_close(_scaled(z, 2.0), together)
    torch.testing.assert_close(
        _scaled(silu(together), 0.5),
        interpolate(silu(together), size=(6, 5), mode="bicubic", antialias=True),
    )
    torch.testing.assert_close(alias_free_gate(z), _scaled(silu(_scaled(z, 2.0)), 0.5))


def test_plain_activation_changes_the_rate():
    x = torch.randn(2, 3, 4, 6)
    same = PlainActivation(1, 1, 3)(x)
    assert torch.equal(PlainActivation(2, 1, 3)(x), same[..., ::2, ::2])
    assert torch.equal(PlainActivation(1, 2, 3)(x)[..., 1::2, ::2], same)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_layer_compiles_whole(scale):
    torch._dynamo.reset()
    layer = CrossSelectiveScan(2, states=2)
    x = torch.randn(1, 2, 3, 4)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, scale), layer(x, scale))
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "options, count",
    [
        ({}, 1_849_203),
        ({"alias_free": False}, 1_849_203),
        ({"dead_blocks": True}, 3_032_435),
        ({"dead_blocks": True, "width": 32}, 11_250_787),
    ],
    ids=["live", "plain", "with-dead-blocks", "width-32"],
)
def test_parameters_of_the_released_model(options, count):
    assert parameters(MambaNO2d(1, 1, **options)) == count


def small_model(**options) -> MambaNO2d:
    torch.manual_seed(0)
    return MambaNO2d(2, 3, width=2, states=2, hidden=4, **options)


@pytest.mark.parametrize("grid", [(8, 8), (16, 8), (13, 10), (1, 3)])
@pytest.mark.parametrize("alias_free", [True, False])
def test_any_size(grid, alias_free):
    """One model, trained on no matter which grid, evaluated on others."""
    model = small_model(alias_free=alias_free).eval()
    assert model(torch.randn(2, 2, *grid)).shape == (2, 3, *grid)


@pytest.mark.parametrize("n, scale", [(2, 0.5), (3, 1 / 3)])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_stencil_on_a_finer_grid_is_that_on_each_grid_in_it(axes, n, scale):
    kind = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[axes - 1]
    layer = kind(2, 4, 3, padding=1, groups=2).double()
    fine = torch.randn(1, 2, *range(4 * n, 4 * n + axes), dtype=torch.float64)
    out = stencil(layer, fine, scale)
    assert out.shape == (1, 4, *fine.shape[2:])
    for start in torch.cartesian_prod(*[torch.arange(n)] * axes).view(-1, axes).tolist():
        one = (..., *(slice(i, None, n) for i in start))
        torch.testing.assert_close(out[one], layer(fine[one]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alias_free", [True, False])
def test_all_stencils_of_the_model_are_told_the_scale(alias_free):
    model = small_model(alias_free=alias_free).eval()
    x = torch.randn(2, 2, 16, 16)
    out, unaware = model(x, 0.5), model(x)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.dilation = layer.padding = (2, 2)
    torch.testing.assert_close(out, model(x))
    assert (out - unaware).norm() > 1e-3 * unaware.norm()


@pytest.mark.parametrize("scale", [2.0, 0.4, 0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("made", [lambda: CrossSelectiveScan(2, states=2), small_model])
def test_scales_that_are_refused(made, scale):
    with pytest.raises(ValueError, match=f"scale is {scale}; expected 1 / n with a whole n"):
        made()(torch.randn(2, 2, 8, 8), scale)


def test_crop_undoes_the_continuation():
    """A field continued by hand gives what is cropped."""
    model = small_model().eval()
    x = torch.randn(1, 2, 7, 8)
    whole = model(torch.cat([x, x[..., -1:, :]], dim=-2))
    torch.testing.assert_close(model(x), whole[..., :7, :])


def test_gradients_reach_all_but_the_dead_blocks():
    model = small_model(dead_blocks=True, drop_path=0.0)
    model(torch.randn(2, 2, 8, 8)).square().sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {f"dead_neck.{name}" for name, _ in model.dead_neck.named_parameters()}


def test_model_trains():
    model = small_model()
    x = torch.randn(4, 2, 8, 8)
    y = torch.stack([x[:, 0], x[:, 1], x[:, 0] * x[:, 1]], dim=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        loss = (model(x) - y).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_drop_path():
    x = torch.ones(4000, 2, 1)
    drop = DropPath(0.25)
    kept = drop(x)
    assert kept.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert abs(kept.mean() - 1) < 0.1
    assert torch.equal(kept[:, 0], kept[:, 1])
    assert drop.eval()(x) is x
    rates = [m.probability for m in small_model().modules() if isinstance(m, DropPath)]
    assert rates[:8] == sorted(rates[:8]) and rates[8:] == rates[7::-1]
