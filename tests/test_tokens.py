"""Networks of tokens against torch's attention, a Mixer written out by hand, symmetries and counts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from optcourse import data
from optcourse.models import mixer, n_parameters, rows, vit
from optcourse.models.tokens import Attention, Perceptron, Positions, Tokens
from optcourse.optim import SGD
from optcourse.training import copies

EXACT = {"rtol": 0, "atol": 1e-12}  # float64: sums of some hundred numbers of order one


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def attention(width, heads, seed=0):
    module = Attention(width, heads).double()
    for i, p in enumerate(module.parameters()):
        nn.init.normal_(p, std=0.5, generator=torch.Generator().manual_seed(seed + i))
    return module


@settings(max_examples=20, deadline=None)
@given(heads=st.integers(1, 4), d=st.integers(1, 5), tokens=st.integers(1, 6), n=st.integers(1, 3))
def test_attention_equals_torchs_with_the_same_weights(heads, d, tokens, n):
    ours, x = attention(heads * d, heads), normal(n, tokens, heads * d)
    theirs = nn.MultiheadAttention(heads * d, heads, batch_first=True, dtype=torch.float64)
    for p, q in zip(theirs.parameters(), ours.parameters(), strict=True):
        p.data.copy_(q.data)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0], **EXACT)


def test_attention_equals_scaled_dot_products_head_by_head():
    module, x = attention(6, 2), normal(3, 5, 6)
    q, k, v = module.qkv(x).chunk(3, dim=-1)
    heads = [nn.functional.scaled_dot_product_attention(*(part[..., h : h + 3] for part in (q, k, v))) for h in (0, 3)]
    torch.testing.assert_close(module(x), module.out(torch.cat(heads, dim=-1)), **EXACT)


def test_a_token_that_all_ask_for_gets_all_the_attention():
    """One head, identity maps, token 1 far longer than the others: every output is token 1."""
    module, eye = Attention(2, 1).double(), torch.eye(2, dtype=torch.float64)
    module.load_state_dict(
        {"qkv.weight": eye.repeat(3, 1), "qkv.bias": torch.zeros(6), "out.weight": eye, "out.bias": torch.zeros(2)}
    )
    x = torch.tensor([[[1.0, 1.0], [100.0, 100.0], [2.0, 1.0]]], dtype=torch.float64)
    torch.testing.assert_close(module(x), x[:, 1:2].expand(1, 3, 2), **EXACT)


@pytest.mark.parametrize(("dimensions", "size", "patch"), [(2, 8, 2), (2, 6, 3), (1, 40, 4)])
def test_tokens_are_linear_maps_of_patches(dimensions, size, patch):
    """Against torch's unfold, patch by patch in reading order."""
    net = vit(size, 3, dimensions=dimensions, in_channels=2, patch=patch, width=4, heads=1, seed=1).double()
    x = normal(3, 2, *[size] * dimensions)
    image = x if dimensions == 2 else x.unsqueeze(2)
    patches = nn.functional.unfold(image, (patch if dimensions == 2 else 1, patch), stride=patch).mT
    weight, bias = net[2].weight.flatten(1), net[2].bias
    torch.testing.assert_close(net[:4](x), patches @ weight.T + bias, **EXACT)
    torch.testing.assert_close(net(x.flatten(1)), net(x), rtol=0, atol=0)


def permuted(net, x, order):
    """The scores of ``net`` when its tokens come in another order."""
    return net[4:](net[:4](x)[:, order])


def test_places_do_not_matter_but_through_their_positions():
    net, x = vit(8, 5, width=12, heads=3, seed=2).double(), normal(4, 64)
    positions = net[4].table.data
    nn.init.normal_(positions, generator=torch.Generator().manual_seed(0))
    before, order = net(x), torch.randperm(16, generator=torch.Generator().manual_seed(3))
    assert not torch.allclose(permuted(net, x, order), before, atol=1e-3)  # patches alone
    positions.copy_(positions[order].clone())
    torch.testing.assert_close(permuted(net, x, order), before, **EXACT)  # together with their positions


def test_a_mixer_tells_places_apart_without_positions():
    net, x = mixer(8, 5, width=12, seed=2).double(), normal(4, 64)
    assert not any(isinstance(module, Positions) for module in net.modules())
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    assert not torch.allclose(permuted(net, x, order), net(x), atol=1e-3)
    for module in net.modules():  # all tokens alike: then their order is lost
        if isinstance(module, Perceptron) and module.axis == -2:
            module.first.weight.data[:] = module.first.weight.data[:, :1].clone()
            module.second.weight.data[:] = module.second.weight.data[:1].clone()
    torch.testing.assert_close(permuted(net, x, order), net(x), **EXACT)


def test_mixer_equals_one_written_out_by_hand():
    """Equation (1) of the paper, on matrices X [tokens, width], with its own layer norm and gelu."""
    net, x = mixer(4, 3, patch=2, width=5, depth=2, token_hidden=7, hidden=6, seed=4).double(), normal(2, 16)
    for p in net.parameters():  # gains and offsets of the norms, too
        p.data.add_(0.1 * normal(*p.shape, seed=p.numel()))
    parts = iter([p.detach() for p in net.parameters()])

    def norm(z, gain, offset):
        centred = z - z.mean(1, keepdim=True)
        return gain * centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() + offset

    def gelu(z):
        return z * (1 + torch.erf(z / math.sqrt(2))) / 2

    w, b = next(parts), next(parts)
    w = w.flatten(1)
    squares = x.view(2, 2, 2, 2, 2).transpose(2, 3).reshape(2, 4, 4)  # [N, rows of patches, columns, pixels]
    xs = [square @ w.T + b for square in squares]
    for _ in range(2):
        gain, offset, w1, b1, w2, b2 = (next(parts) for _ in range(6))
        xs = [z + w2 @ gelu(w1 @ norm(z, gain, offset) + b1[:, None]) + b2[:, None] for z in xs]
        gain, offset, w3, b3, w4, b4 = (next(parts) for _ in range(6))
        xs = [z + gelu(norm(z, gain, offset) @ w3.T + b3) @ w4.T + b4 for z in xs]
    gain, offset, w, b = (next(parts) for _ in range(4))
    scores = torch.stack([norm(z, gain, offset).mean(0) @ w.T + b for z in xs])
    torch.testing.assert_close(net(x), scores, **EXACT)
    assert next(parts, None) is None


@pytest.mark.parametrize(("dimensions", "size", "patch"), [(2, 8, 2), (1, 40, 5), (2, 4, 4)])
@pytest.mark.parametrize("depth", [1, 3])
def test_numbers_of_parameters(dimensions, size, patch, depth):
    T, W, H, S, C, c = (size // patch) ** dimensions, 12, 20, 9, 7, 2
    options = {"dimensions": dimensions, "patch": patch, "width": W, "depth": depth, "hidden": H, "in_channels": c}
    embedding, head, norm = (c * patch**dimensions + 1) * W, (W + 1) * C, 2 * W
    channels = (W + 1) * H + (H + 1) * W
    attention = (W + 1) * 3 * W + (W + 1) * W
    expected = embedding + T * W + depth * (2 * norm + attention + channels) + norm + head
    assert n_parameters(vit(size, C, heads=3, **options)) == expected
    tokens = (T + 1) * S + (S + 1) * T
    expected = embedding + depth * (2 * norm + tokens + channels) + norm + head
    assert n_parameters(mixer(size, C, token_hidden=S, **options)) == expected


BUILDERS = [
    lambda seed: vit(8, 4, width=8, depth=2, heads=2, seed=seed),
    lambda seed: mixer(8, 4, width=8, depth=2, seed=seed),
    lambda seed: vit(40, 4, dimensions=1, patch=8, width=8, depth=1, heads=4, seed=seed),
    lambda seed: mixer(40, 4, dimensions=1, patch=4, width=8, depth=1, seed=seed),
]


@pytest.mark.parametrize("build", BUILDERS)
def test_many_at_once_have_the_scores_and_gradients_of_each_alone(build):
    nets = [build(seed).double() for seed in range(3)]
    features = 64 if isinstance(nets[0][2], nn.Conv2d) else 40
    x, y = normal(3, 6, features), torch.arange(18).view(3, 6) % 4
    w = rows.stack(nets).requires_grad_()
    found = rows.scores(nets[0], w, x)
    (g,) = torch.autograd.grad(rows.losses(nets[0], w, x, y).sum(), w)
    for i, net in enumerate(nets):
        torch.testing.assert_close(found[i].T, net(x[i]), **EXACT)
        nn.functional.cross_entropy(net(x[i]), y[i]).backward()
        torch.testing.assert_close(g[i], torch.cat([p.grad.flatten() for p in net.parameters()]), **EXACT)


def test_one_seed_gives_one_model_whatever_the_global_state():
    for build in BUILDERS:
        before = torch.get_rng_state()
        a = build(3)
        assert torch.equal(before, torch.get_rng_state())  # building did not draw from the global generator
        torch.manual_seed(5)
        b, c = build(3), build(4)
        assert torch.equal(rows.flat_parameters(a), rows.flat_parameters(b))
        assert not torch.equal(rows.flat_parameters(a), rows.flat_parameters(c))


def test_tokens_keep_their_scale_at_the_start():
    """Maps N(0, 1/fan_in): a token has mean square one behind the patches, whatever the patch."""
    for patch in (1, 2, 4):
        net = vit(8, 10, patch=patch, width=512, heads=1, depth=1, seed=0)
        x = torch.randn(50, 64, generator=torch.Generator().manual_seed(1))
        assert net[:4](x).square().mean().item() == pytest.approx(1, rel=0.1)
    assert net[4].table.std().item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("build", [vit, mixer])
def test_they_learn_the_digits(build):
    digits = data.digits(seed=0)
    nets = [build(8, 10, width=16, depth=1, seed=seed) for seed in (0, 1)]
    lr = torch.full((200, 1), 0.03).numpy()
    trained = copies.train(nets, (digits.x_train, digits.y_train), SGD, lr, orders=(0, 1), batch_size=64, momentum=0.9)
    _, accuracy = rows.evaluate(nets[0], trained.weights[0], digits.x_test, digits.y_test)
    assert (accuracy > 0.6).all()  # guessing is right for one in ten


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vit(0), "size must be at least 1, got 0"),
        (lambda: vit(8, 0), "classes must be at least 1, got 0"),
        (lambda: vit(8, patch=3), "patch must divide size, got patch=3 and size=8"),
        (lambda: vit(8, patch=0), "patch must be at least 1, got 0"),
        (lambda: vit(width=30, heads=4), "heads must divide width, got heads=4 and width=30"),
        (lambda: vit(heads=0), "heads must be at least 1, got 0"),
        (lambda: vit(dimensions=3), "dimensions must be in 1..2, got 3"),
        (lambda: vit(in_channels=0), "in_channels"),
        (lambda: vit(depth=0), "depth must be at least 1, got 0"),
        (lambda: vit(hidden=0), "hidden must be at least 1, got 0"),
        (lambda: vit(seed=-1), "seed"),
        (lambda: mixer(width=0), "width must be at least 1, got 0"),
        (lambda: mixer(token_hidden=0), "token_hidden must be at least 1, got 0"),
        (lambda: mixer(9, patch=2), "patch must divide size"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ["size", "patch", "width", "depth", "seed"])
@pytest.mark.parametrize("value", [True, 2.0, "2", None, math.nan])
def test_numbers_that_are_no_integers_are_refused(name, value):
    for build in (vit, mixer):
        with pytest.raises(TypeError, match=f"^{name} must be an integer"):
            build(**{name: value})


def test_other_inputs_are_refused():
    for net in (vit(8), mixer(8)):
        for shape in ((3, 63), (2, 16, 4), (2, 4, 4, 4), (2, 8, 8), (1, 2, 8, 8), (64,)):  # most have 64 numbers
            with pytest.raises(ValueError, match=r"x must have shape \[N, 64\] or \[N, 1, 8, 8\], got \["):
                net(torch.zeros(shape))
    assert Tokens()(torch.zeros(2, 5, 3, 4)).shape == (2, 12, 5)


@pytest.mark.parametrize(
    ("build", "fan_in"),
    [(lambda: Attention(6, 2), 6), (lambda: Perceptron(6, 6, axis=-2), 6)],
    ids=["attention", "mlp"],
)
def test_layers_alone_start_as_torchs_linear_maps_do(build, fan_in):
    torch.manual_seed(0)
    first = [p.detach().clone() for p in build().parameters()]
    torch.manual_seed(0)
    for p, again in zip(first, build().parameters(), strict=True):
        assert torch.equal(p, again) and 0 < p.abs().max() <= fan_in**-0.5


@pytest.mark.parametrize(
    ("width", "heads", "message"),
    [(6, 4, "heads must divide width, got heads=4 and width=6"), (6, 0, "heads must be at least 1"), (0, 1, "width")],
)
def test_attention_refuses_heads_that_do_not_fit(width, heads, message):
    with pytest.raises(ValueError, match=message):
        Attention(width, heads)
