"""The noise scale of a network against a loop over samples, and its estimate against the whole training set."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from optcourse import data, models
from optcourse.models.rows import flat_parameters
from optcourse.training import noise

DIGITS = data.digits()
NET = models.mlp(64, 10, width=6, depth=2, seed=3)


def by_hand(model, x, y, loss=cross_entropy):
    """One backward pass for each sample."""
    rows = []
    for i in range(len(x)):
        model.zero_grad()
        loss(model(x[i : i + 1]), y[i : i + 1]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    return torch.stack(rows)


@pytest.mark.parametrize("loss", [cross_entropy, mse_loss], ids=["cross-entropy", "squares"])
def test_per_sample_gradients_are_those_of_a_loop(loss):
    x, y = DIGITS.x_train[:9], DIGITS.y_train[:9]
    model, y = (NET, y) if loss is cross_entropy else (models.mlp(64, 1, width=6, seed=1), y.float().unsqueeze(1))
    found = noise.per_sample_gradients(model, flat_parameters(model), x, y, loss)
    torch.testing.assert_close(found, by_hand(model, x, y, loss), rtol=1e-4, atol=1e-6)


def test_a_convolution_works_and_nothing_of_the_model_changes():
    model = models.cnn1d(seed=0, channels=(4, 4, 4))
    before, x = flat_parameters(model), torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    state, training = torch.random.get_rng_state(), model.training
    with torch.no_grad():
        found = noise.per_sample_gradients(model, before, x, torch.arange(5))
        assert not torch.is_grad_enabled()
    torch.testing.assert_close(found, by_hand(model, x, torch.arange(5)), rtol=1e-4, atol=1e-6)
    assert torch.equal(before, flat_parameters(model)) and model.training == training
    assert torch.equal(state, torch.random.get_rng_state())


def test_intervals_from_some_samples_cover_the_noise_scale_of_all():
    """100 draws with replacement, 95 % intervals: 95 ± 2.2 standard errors; 86 is four errors below."""
    gradients = noise.per_sample_gradients(NET, flat_parameters(NET), DIGITS.x_train, DIGITS.y_train).double()
    mean = gradients.mean(0)
    truth = float((gradients - mean).square().sum(1).mean() / mean.square().sum())
    covered, generator = 0, torch.Generator().manual_seed(0)
    for _ in range(100):
        i = torch.randint(len(DIGITS.x_train), (200,), generator=generator)
        found = noise.noise_scale(NET, flat_parameters(NET), DIGITS.x_train[i], DIGITS.y_train[i])
        covered += found.low <= truth <= found.high
    assert covered >= 86
    assert found.seeds == 200 and np.isfinite(found.stderr)


def test_bad_input_is_refused():
    w, x, y = flat_parameters(NET), DIGITS.x_train[:4], DIGITS.y_train[:4]
    with pytest.raises(ValueError, match=r"w must have shape \[d\]"):
        noise.noise_scale(NET, w[None], x, y)
    with pytest.raises(ValueError, match="one length"):
        noise.noise_scale(NET, w, x, y[:3])
    with pytest.raises(ValueError, match="w must have shape"):
        noise.noise_scale(NET, w[1:], x, y)
    with pytest.raises(ValueError, match="one precision, got torch.float64 and torch.float32"):
        noise.per_sample_gradients(NET, w.double(), x, y)
    with pytest.raises(ValueError, match="gradients must have shape"):
        noise.noise_scale(NET, w, x[:2], y[:2])
    with pytest.raises(ValueError, match="must not contain BatchNorm1d"):
        normalized = models.mlp(64, 10, width=6, norm="batch")
        noise.noise_scale(normalized, flat_parameters(normalized), x, y)
    with pytest.raises(ValueError, match="gradients must be in"):
        noise.noise_scale(NET, w * torch.nan, x, y)
    with pytest.raises(ValueError, match="must have parameters"):
        noise.noise_scale(nn.Flatten(), w, x, y)
