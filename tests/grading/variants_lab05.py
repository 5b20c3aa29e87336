"""Correct solutions of lab 05 in other styles; each keeps every point."""

from grading_cases import Variant

VARIANTS = [
    Variant(
        "loops over rows and entries",
        cells={
            "cosine-restarts": """\
def cosine_restarts(step, period, growth=1, low=0.0):
    start = 0
    length = period
    while True:
        if step < start + length:
            t = step - start
            return low + (1 - low) * (1 + np.cos(np.pi * t / length)) / 2
        start += length
        length *= growth
""",
            "second-moment": """\
def second_moment(rates, curvature, noise_variance, x0):
    out = np.zeros(len(rates) + 1)
    out[0] = x0**2
    for k in range(len(rates)):
        shrink = 1 - rates[k] * curvature
        out[k + 1] = shrink * shrink * out[k] + rates[k] * rates[k] * noise_variance
    return out
""",
            "adam-step": """\
def adam_step(x, m, v, g, t, lr, betas, eps, weight_decay, decoupled):
    new_x, new_m, new_v = (np.zeros(x.shape) for _ in range(3))
    for i in np.ndindex(x.shape):
        slope = g[i] if decoupled else g[i] + weight_decay * x[i]
        new_m[i] = betas[0] * m[i] + (1 - betas[0]) * slope
        new_v[i] = betas[1] * v[i] + (1 - betas[1]) * slope**2
        move = new_m[i] / (1 - betas[0] ** t) / ((new_v[i] / (1 - betas[1] ** t)) ** 0.5 + eps)
        new_x[i] = x[i] - lr * move - (lr * weight_decay * x[i] if decoupled else 0)
    return new_x, new_m, new_v
""",
            "invariant-gradient": """\
def invariant_gradient(w, u):
    result = np.zeros_like(w)
    for i in range(len(w)):
        size = np.sqrt(np.dot(w[i], w[i]))
        inward = np.dot(w[i], u[i]) / size**2
        for j in range(w.shape[1]):
            result[i, j] = (u[i, j] - inward * w[i, j]) / size
    return result
""",
            "sgdp-step": """\
def sgdp_step(w, m, g, lr, momentum, delta):
    units, d = w.shape
    new_m = momentum * m + g
    p = new_m.copy()
    flat = True
    for i in range(units):
        cosine = np.dot(w[i], g[i]) / np.sqrt(np.dot(w[i], w[i]) * np.dot(g[i], g[i]))
        if abs(cosine) >= delta / np.sqrt(d):
            flat = False
    if flat:
        for i in range(units):
            p[i] -= np.dot(p[i], w[i]) / np.dot(w[i], w[i]) * w[i]
    return w - lr * p, new_m
""",
        },
    ),
    Variant(
        "torch inside, arrays come back",
        cells={
            "warmup-cosine": """\
import torch


def warmup_cosine(step, warmup, total, low=0.0):
    if step < warmup:
        return torch.tensor((step + 1) / warmup, dtype=torch.float64).item()
    done = torch.tensor((min(step, total) - warmup) / (total - warmup), dtype=torch.float64)
    return torch.lerp(torch.tensor(low).double(), torch.ones(()).double(), (1 + torch.cos(torch.pi * done)) / 2).item()
""",
            "second-moment": """\
def second_moment(rates, curvature, noise_variance, x0):
    rates = torch.as_tensor(rates, dtype=torch.float64)
    moments = torch.empty(len(rates) + 1, dtype=torch.float64)
    moments[0] = x0**2
    for k, rate in enumerate(rates):
        moments[k + 1] = (1 - rate * curvature).square() * moments[k] + rate.square() * noise_variance
    return moments.numpy()
""",
            "adam-step": """\
def adam_step(x, m, v, g, t, lr, betas, eps, weight_decay, decoupled):
    p = torch.nn.Parameter(torch.from_numpy(x.copy()))
    p.grad = torch.from_numpy(g.copy())
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer = kind([p], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    optimizer.state[p] = {
        "step": torch.tensor(float(t - 1)),
        "exp_avg": torch.from_numpy(m.copy()),
        "exp_avg_sq": torch.from_numpy(v.copy()),
    }
    optimizer.step()
    state = optimizer.state[p]
    return p.detach().numpy(), state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()
""",
            "as-penalty": """\
def as_penalty(lr, momentum, weight_decay, x0):
    kept = torch.tensor(1 - lr * weight_decay, dtype=torch.float64)
    buffer = torch.from_numpy(x0) * weight_decay / kept
    return float(momentum * kept), weight_decay - weight_decay * momentum, buffer.numpy()
""",
            "invariant-gradient": """\
def invariant_gradient(w, u):
    w = torch.tensor(w, requires_grad=True)
    h = (torch.nn.functional.normalize(w, dim=1) * torch.tensor(u)).sum()
    h.backward()
    return w.grad.numpy()
""",
            "sgdp-step": """\
def sgdp_step(w, m, g, lr, momentum, delta):
    w, m, g = map(torch.tensor, (w, m, g))
    m = momentum * m + g
    p, cosines = m, torch.nn.functional.cosine_similarity(w, g, dim=1)
    if (cosines.abs() < delta / w.shape[1] ** 0.5).all():
        unit = torch.nn.functional.normalize(w, dim=1)
        p = m - torch.einsum("ij,ij,ik->ik", m, unit, unit)
    return (w - lr * p).numpy(), m.numpy()
""",
        },
    ),
    Variant(
        "in place on copies",
        cells={
            "second-moment": """\
def second_moment(rates, curvature, noise_variance, x0):
    moments = np.empty(1 + len(rates))
    now = moments[:1]
    now[:] = x0
    now *= now
    for k, rate in enumerate(rates):
        moments[k + 1] = moments[k]
        moments[k + 1] *= (1 - rate * curvature) ** 2
        moments[k + 1] += rate**2 * noise_variance
    return moments
""",
            "adam-step": """\
def adam_step(x, m, v, g, t, lr, betas, eps, weight_decay, decoupled):
    x, m, v, g = x.copy(), m.copy(), v.copy(), g.copy()
    if decoupled:
        decay = lr * weight_decay * x
    else:
        g += weight_decay * x
        decay = 0
    m *= betas[0]
    m += (1 - betas[0]) * g
    v *= betas[1]
    v += (1 - betas[1]) * g * g
    denominator = np.sqrt(v / (1 - betas[1] ** t))
    denominator += eps
    x -= lr * m / (1 - betas[0] ** t) / denominator
    x -= decay
    return x, m, v
""",
            "invariant-gradient": """\
def invariant_gradient(w, u):
    w, out = w.copy(), u.copy()
    lengths = np.sqrt((w**2).sum(1))
    w /= lengths[:, None]
    out -= (w * out).sum(1)[:, None] * w
    out /= lengths[:, None]
    return out
""",
            "sgdp-step": """\
def sgdp_step(w, m, g, lr, momentum, delta):
    m = m * momentum
    m += g
    p, w = m.copy(), w.copy()
    norms = np.linalg.norm(w, axis=1) * np.linalg.norm(g, axis=1)
    if np.all(np.abs(np.sum(w * g, axis=1)) < norms * delta / w.shape[1] ** 0.5):
        p -= (np.sum(p * w, axis=1) / np.sum(w * w, axis=1))[:, None] * w
    w -= lr * p
    return w, m
""",
        },
    ),
    Variant(
        "helpers with the names that tests like",
        cells={
            "warmup-cosine": """\
def warmup_cosine(step, warmup, total, low=0.0):
    if step < warmup:
        return first(step, warmup)
    return low if step >= total else decay(step - warmup, total - warmup, low)
""",
            "cosine-restarts": """\
def cosine_restarts(step, period, growth=1, low=0.0):
    return decay(*again(step, period, growth), low)
""",
            "second-moment": """\
def second_moment(rates, curvature, noise_variance, x0):
    x = [x0 * x0]
    for rate in rates:
        x.append(follow(x[-1], rate, curvature, noise_variance))
    return np.asarray(x)
""",
            "adam-step": """\
def adam_step(x, m, v, g, t, lr, betas, eps, weight_decay, decoupled):
    if not decoupled:
        g = penalty(g, x, weight_decay)
    m, v = plain(m, g, betas[0]), plain(v, g**2, betas[1])
    step = lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return (x * (1 - lr * weight_decay) if decoupled else x) - step, m, v
""",
            "as-penalty": """\
def as_penalty(lr, momentum, weight_decay, x0):
    return momentum * start(lr, weight_decay), slope(momentum, weight_decay), found(lr, weight_decay) * x0
""",
            "invariant-gradient": """\
def invariant_gradient(w, u):
    return projected(u, w) / weights(w)
""",
            "sgdp-step": """\
def sgdp_step(w, m, g, lr, momentum, delta):
    m = momentum * m + g
    two = np.abs((w * g).sum(1)) / (weights(w) * weights(g))[:, 0]
    flat = bool(np.max(two) < delta / np.sqrt(w.shape[1]))
    return w - lr * (projected(m, w) if flat else m), m
""",
        },
        helpers={
            "warmup-cosine": """\
first = lambda step, warmup: (step + 1) / warmup


def decay(t, total, low):
    return low + (1 - low) * (1 + np.cos(np.pi * t / total)) / 2


def again(step, period, growth):
    while step >= period:
        step, period = step - period, period * growth
    return step, period


def follow(x, rate, curvature, noise):
    return (1 - rate * curvature) ** 2 * x + rate**2 * noise
""",
            "adam-step": """\
def penalty(gradient, old, w):
    return gradient + w * old


def plain(old, new, beta):
    return beta * old + (1 - beta) * new


def start(lr, w):
    return 1 - lr * w


def slope(momentum, w):
    return w * (1 - momentum)


def found(lr, w):
    return w / start(lr, w)


def weights(w):
    return np.linalg.norm(w, axis=1)[:, None]


def projected(p, w):
    return p - (p * w).sum(1)[:, None] * w / (w * w).sum(1)[:, None]
""",
        },
    ),
    Variant(
        "own names for what Python calls otherwise",
        cells={
            "warmup-cosine": """\
max = 1.0
sum = min = 0


def warmup_cosine(step, warmup, total, low=0.0):
    range = total - warmup
    if step < warmup:
        return max * (step + 1) / warmup
    if step > total:
        return low
    half = np.cos(np.pi * (step - warmup) / range) / 2 + 0.5
    return low * (1 - half) + max * half
""",
            "cosine-restarts": """\
list = []


def cosine_restarts(step, period, growth=1, low=0.0):
    next, len = 0, period
    while next + len <= step:
        next, len = next + len, len * growth
    list.append(next)
    return low + (1 - low) * np.cos(np.pi / 2 * (step - next) / len) ** 2
""",
            "invariant-gradient": """\
str, type = "float32", "unit"


def invariant_gradient(w, u):
    norm = np.linalg.norm(w, axis=1)
    sum = np.einsum("ij,ij->i", w, u)
    all = u - (sum / norm**2)[:, np.newaxis] * w
    return (all / norm[:, np.newaxis]).astype(w.dtype)
""",
            "sgdp-step": """\
def sgdp_step(w, m, g, lr, momentum, delta):
    next = momentum * m + g
    abs, dir = np.abs(np.sum(w * g, 1)), next
    if (abs < delta / np.sqrt(w.shape[-1]) * np.sqrt(np.sum(w**2, 1) * np.sum(g**2, 1))).all():
        dir = next - np.sum(next * w, 1, keepdims=True) / np.sum(w**2, 1, keepdims=True) * w
    return w - lr * dir, next
""",
        },
    ),
    Variant(
        "classes that are called",
        cells={
            "warmup-cosine": """\
class Schedule:
    def __init__(self, shape):
        self.shape = shape

    def __call__(self, step, warmup, total, low=0.0):
        if step < warmup:
            return (1 + step) / warmup
        return low + (1 - low) * self.shape(np.clip((step - warmup) / (total - warmup), 0, 1))


warmup_cosine = Schedule(lambda s: (1 + np.cos(np.pi * s)) / 2)
""",
            "second-moment": """\
class Moments:
    def __init__(self, curvature, noise_variance):
        self.curvature, self.noise = curvature, noise_variance

    def run(self, rates, now):
        yield now
        for rate in rates:
            now = now * (1 - rate * self.curvature) ** 2 + self.noise * rate**2
            yield now


def second_moment(rates, curvature, noise_variance, x0):
    return np.array([*Moments(curvature, noise_variance).run(rates, x0**2)])
""",
            "adam-step": """\
class Adam:
    def __init__(self, lr, betas, eps, weight_decay):
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay

    def direction(self, m, v, t):
        return m / (1 - self.betas[0] ** t) / (np.sqrt(v / (1 - self.betas[1] ** t)) + self.eps)

    def averages(self, m, v, g):
        beta1, beta2 = self.betas
        return m + (1 - beta1) * (g - m), v + (1 - beta2) * (g * g - v)

    def with_penalty(self, x, m, v, g, t):
        m, v = self.averages(m, v, g + self.weight_decay * x)
        return x - self.lr * self.direction(m, v, t), m, v

    def with_decay(self, x, m, v, g, t):
        m, v = self.averages(m, v, g)
        return x - self.lr * (self.direction(m, v, t) + self.weight_decay * x), m, v


def adam_step(x, m, v, g, t, lr, betas, eps, weight_decay, decoupled):
    method = Adam(lr, betas, eps, weight_decay)
    return (method.with_decay if decoupled else method.with_penalty)(x, m, v, g, t)
""",
            "as-penalty": """\
from collections import namedtuple

Penalty = namedtuple("Penalty", "momentum weight_decay buffer")


class Translation:
    def __call__(self, lr, momentum, weight_decay, x0):
        kept = 1 - lr * weight_decay
        return Penalty(momentum * kept, (1 - momentum) * weight_decay, weight_decay / kept * x0)


as_penalty = Translation()
""",
        },
    ),
    Variant(
        "functools: partial, reduce, caches",
        cells={
            "warmup-cosine": """\
from functools import lru_cache, partial, reduce


@lru_cache(maxsize=None)
def half_cosine(done, low):
    return low + 0.5 * (1 - low) * (1 + np.cos(done * np.pi))


def warmup_cosine(step, warmup, total, low=0.0):
    if step < warmup:
        return (step + 1) / warmup
    return half_cosine(min(1.0, (step - warmup) / (total - warmup)), low)
""",
            "cosine-restarts": """\
starts = {}


def cosine_restarts(step, period, growth=1, low=0.0):
    known = starts.setdefault((period, growth), [0])
    while known[-1] <= step:
        known.append(known[-1] + period * growth ** (len(known) - 1))
    k = max(i for i, start in enumerate(known) if start <= step)
    return half_cosine((step - known[k]) / (known[k + 1] - known[k]), low)
""",
            "second-moment": """\
def second_moment(rates, curvature, noise_variance, x0):
    def after(moments, rate):
        return [*moments, (1 - rate * curvature) ** 2 * moments[-1] + noise_variance * rate**2]

    return np.array(reduce(after, rates, [x0**2]))
""",
            "adam-step": """\
def general(penalty, decay, x, m, v, g, t, lr, betas, eps):
    g = g + penalty * x
    m, v = (b * old + (1 - b) * new for b, old, new in zip(betas, (m, v), (g, g * g)))
    m_hat, v_hat = (average / (1 - b**t) for b, average in zip(betas, (m, v)))
    return x - lr * (m_hat / (v_hat**0.5 + eps) + decay * x), m, v


def adam_step(x, m, v, g, t, lr, betas, eps, weight_decay, decoupled):
    settings = (0.0, weight_decay) if decoupled else (weight_decay, 0.0)
    return partial(general, *settings)(x, m, v, g, t, lr=lr, betas=betas, eps=eps)
""",
        },
    ),
    Variant(
        "type hints, keywords and long names",
        cells={
            "warmup-cosine": '''\
from math import cos, pi


def warmup_cosine(step: int, warmup: int, total: int, low: float = 0.0) -> float:
    """A line, half a cosine, a constant."""
    if step < warmup:
        multiplier: float = (step + 1) / warmup
    elif step < total:
        share_done: float = (step - warmup) / (total - warmup)
        multiplier = low + (1.0 - low) * (1.0 + cos(pi * share_done)) / 2.0
    else:
        multiplier = low
    return multiplier
''',
            "as-penalty": """\
from typing import Tuple


def as_penalty(
    lr: float, momentum: float, weight_decay: float, x0: np.ndarray
) -> Tuple[float, float, np.ndarray]:
    kept_share: float = 1.0 - lr * weight_decay
    new_momentum: float = momentum * kept_share
    # n_{k+1} = m_{k+1} + w x_{k+1}: what is left of it without the new momentum times n_k
    new_weight_decay: float = (weight_decay - new_momentum * weight_decay / kept_share)
    first_step: np.ndarray = weight_decay * np.asarray(x0)
    return new_momentum, new_weight_decay, (first_step - new_weight_decay * x0) / new_momentum if new_momentum else (
        np.zeros_like(x0)
    )
""",
            "sgdp-step": """\
def sgdp_step(
    w: np.ndarray, m: np.ndarray, g: np.ndarray, lr: float, momentum: float, delta: float
) -> "tuple[np.ndarray, np.ndarray]":
    new_buffer: np.ndarray = momentum * m + g
    inner_products: np.ndarray = np.einsum("ij,ij->i", w, g)
    weight_norms: np.ndarray = np.linalg.norm(w, axis=1, ord=2)
    gradient_norms: np.ndarray = np.linalg.norm(g, axis=1, ord=2)
    is_invariant: bool = not np.any(
        np.abs(inner_products / (weight_norms * gradient_norms)) >= delta / np.sqrt(w.shape[1])
    )
    if not is_invariant:
        return w - lr * new_buffer, new_buffer
    outward: np.ndarray = np.einsum("ij,ij->i", new_buffer, w) / np.square(weight_norms)
    return w - lr * (new_buffer - outward.reshape(-1, 1) * w), new_buffer
""",
        },
    ),
    Variant(
        "recursion and logarithms",
        cells={
            "cosine-restarts": """\
def cosine_restarts(step, period, growth=1, low=0.0):
    if growth == 1:
        t, length = step % period, period
    else:
        n = int(np.floor(np.log(step * (growth - 1) / period + 1) / np.log(growth) + 1e-9))
        length = period * growth**n
        t = step - period * (growth**n - 1) // (growth - 1)
    return low + (1 - low) * (1 + np.cos(np.pi * t / length)) / 2
""",
            "second-moment": """\
def second_moment(rates, curvature, noise_variance, x0):
    if len(rates) == 0:
        return np.array([x0**2], dtype=float)
    past = second_moment(rates[:-1], curvature, noise_variance, x0)
    a = rates[-1]
    return np.append(past, past[-1] * (1 - a * curvature) ** 2 + a * a * noise_variance)
""",
            "invariant-gradient": """\
def invariant_gradient(w, u):
    def one(row, slope):
        r2 = row @ row
        return (slope - row * (row @ slope) / r2) / r2**0.5

    return np.array([one(row, slope) for row, slope in zip(w, u)])
""",
        },
    ),
    Variant(
        "the second moment by products and cumulated sums",
        cells={
            "second-moment": """\
def second_moment(rates, curvature, noise_variance, x0):
    rates = np.array(rates, dtype=float)
    factors = (1 - rates * curvature) ** 2
    result = []
    for k in range(len(rates) + 1):
        survival = np.append(np.cumprod(factors[:k][::-1])[::-1], 1.0)
        result.append(survival[0] * x0**2 + np.sum(rates[:k] ** 2 * noise_variance * survival[1:]))
    return np.array(result)
""",
            "invariant-gradient": """\
def invariant_gradient(w, u):
    units, d = w.shape
    length = np.linalg.norm(w, axis=1)
    unit = w / length[:, None]
    projections = np.eye(d, dtype=w.dtype) - unit[:, :, None] * unit[:, None, :]
    return np.einsum("nij,nj->ni", projections, u) / length[:, None]
""",
            "sgdp-step": """\
def sgdp_step(w, m, g, lr, momentum, delta):
    m = momentum * m + g
    cosine = np.diag(w @ g.T) / np.linalg.norm(w, axis=1) / np.linalg.norm(g, axis=1)
    if np.max(np.abs(cosine)) >= delta * w.shape[1] ** -0.5:
        return w - lr * m, m
    jacobian = np.eye(w.shape[1]) - np.einsum("ni,nj,n->nij", w, w, np.linalg.norm(w, axis=1) ** -2)
    return w - lr * (jacobian @ m[:, :, None])[:, :, 0], m
""",
        },
    ),
    Variant(
        "lists and arrays where the docstring has tuples",
        cells={
            "adam-step": """\
def adam_step(x, m, v, g, t, lr, betas, eps, weight_decay, decoupled):
    seen = g + (0 if decoupled else weight_decay) * x
    m_new = betas[0] * m + (1 - betas[0]) * seen
    v_new = betas[1] * v + (1 - betas[1]) * seen * seen
    adam = (m_new / (1 - betas[0] ** t)) / (np.sqrt(v_new / (1 - betas[1] ** t)) + eps)
    x_new = x - lr * adam
    if decoupled:
        x_new = x_new - lr * weight_decay * x
    return np.stack([x_new, m_new, v_new])
""",
            "as-penalty": """\
def as_penalty(lr, momentum, weight_decay, x0):
    left = 1 - lr * weight_decay
    return [left * momentum, weight_decay * (1 - momentum), x0 * (weight_decay / left)]
""",
            "sgdp-step": """\
def sgdp_step(w, m, g, lr, momentum, delta):
    m = momentum * m + g
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    toward = g / np.linalg.norm(g, axis=1, keepdims=True)
    small = np.abs((unit * toward).sum(axis=1)) < delta / np.sqrt(w.shape[1])
    step = m - unit * (unit * m).sum(axis=1, keepdims=True) if small.all() else m
    return np.array([w - lr * step, m])
""",
            "warmup-cosine": """\
def warmup_cosine(step, warmup, total, low=0.0):
    fall = low + (1 - low) * (1 + np.cos(np.pi * (step - warmup) / (total - warmup))) / 2
    return np.select([step < warmup, step < total], [(step + 1) / (warmup or 1), fall], low)
""",
        },
    ),
    Variant(
        "decorators, prints and a log of every call",
        cells={
            "warmup-cosine": """\
calls = {}


def counted(function):
    def wrapper(*args, **kwargs):
        calls[function.__name__] = calls.get(function.__name__, 0) + 1
        return function(*args, **kwargs)

    return wrapper


@counted
def warmup_cosine(step, warmup, total, low=0.0):
    if step < warmup:
        return 1 / warmup + step / warmup
    angle = np.pi * (min(step, total) - warmup) / (total - warmup)
    return 1 - (1 - low) * (1 - np.cos(angle)) / 2
""",
            "cosine-restarts": """\
@counted
def cosine_restarts(step, period, growth=1, low=0.0):
    for restart in range(10**6):
        if step < period:
            break
        step -= period
        period *= growth
    return low + (1 - low) * 0.5 * (np.cos(step / period * np.pi) + 1)
""",
            "as-penalty": """\
@counted
def as_penalty(lr, momentum, weight_decay, x0):
    \"\"\"n_{k+1} = m_{k+1} + w x_{k+1}, and x_{k+1} = x_k - lr n_k.\"\"\"
    beta = momentum - momentum * lr * weight_decay
    print(f"momentum {momentum:g} becomes {beta:g}")
    return beta, weight_decay - weight_decay * momentum, weight_decay * x0 / (1 - lr * weight_decay)
""",
            "adam-step": """\
@counted
def adam_step(x, m, v, g, t, lr, betas, eps, weight_decay, decoupled):
    (b1, b2), w = betas, weight_decay
    old = x
    if decoupled:
        x = x - lr * w * x
    else:
        g = g + w * old
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.power(g, 2)
    return x - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps * np.sqrt(1 - b2**t)), m, v
""",
        },
    ),
    Variant(
        "the package's schedules, and where, in place of branches",
        cells={
            "warmup-cosine": """\
def warmup_cosine(step, warmup, total, low=0.0):
    rising = np.where(warmup > 0, (step + 1) / np.maximum(warmup, 1), 1.0)
    falling = low + (1 - low) * (1 + np.cos(np.pi * np.clip((step - warmup) / (total - warmup), 0, 1))) / 2
    return np.where(step < warmup, rising, falling)
""",
            "cosine-restarts": """\
def cosine_restarts(step, period, growth=1, low=0.0):
    from optcourse.optim import cosine_restarts as theirs

    return low + (1 - low) * np.asarray(theirs(np.array([step]), period=period, growth=growth))[0]
""",
            "second-moment": """\
def second_moment(rates, curvature, noise_variance, x0):
    from itertools import accumulate

    step = lambda moment, rate: (1 - rate * curvature) ** 2 * moment + rate**2 * noise_variance
    return np.fromiter(accumulate(rates, step, initial=x0**2), dtype=float)
""",
        },
    ),
    Variant(
        "numbers in small arrays, a generator of periods",
        cells={
            "cosine-restarts": """\
from itertools import count


def periods(period, growth):
    start = 0
    for n in count():
        length = period * growth**n
        yield start, length
        start += length


def cosine_restarts(step, period, growth=1, low=0.0):
    for start, length in periods(period, growth):
        if start <= step < start + length:
            share = np.array([(step - start) / length])
            return (low + (1 - low) * (1 + np.cos(np.pi * share)) / 2)[0]
""",
            "as-penalty": """\
def as_penalty(lr, momentum, weight_decay, x0):
    # two equations for the two numbers: n_{k+1} = b n_k + w' x_{k+1} must hold for all m_k and x_k
    A = np.array([[1.0, -lr], [weight_decay, 1 - lr * weight_decay]])
    right = np.array([momentum - lr * weight_decay, weight_decay * (1 - lr * weight_decay)])
    b, w = np.linalg.solve(A, right)
    return np.float64(b), np.float64(w), np.divide(weight_decay * x0, 1 - lr * weight_decay)
""",
            "second-moment": """\
def second_moment(rates, curvature, noise_variance, x0):
    state, path = np.array([x0**2, 1.0]), [x0**2]
    for rate in np.asarray(rates, dtype=float):
        state = np.array([[(1 - rate * curvature) ** 2, rate**2 * noise_variance], [0, 1]]) @ state
        path.append(state[0])
    return np.array(path, dtype=np.float64)
""",
        },
    ),
    Variant(
        "every exercise in one line",
        cells={
            "warmup-cosine": """\
warmup_cosine = lambda step, warmup, total, low=0.0: (
    (step + 1) / warmup if step < warmup
    else low + (1 - low) * np.cos(np.pi / 2 * (step - warmup) / (total - warmup)) ** 2 if step < total
    else low
)
""",
            "cosine-restarts": """\
cosine_restarts = lambda step, period, growth=1, low=0.0: (
    low + (1 - low) * (1 + np.cos(np.pi * step / period)) / 2
    if step < period
    else cosine_restarts(step - period, period * growth, growth, low)
    if growth > 1
    else cosine_restarts(step % period, period, 1, low)
)
""",
            "adam-step": """\
blend = lambda old, new, beta: beta * old + (1 - beta) * new
adam_step = lambda x, m, v, g, t, lr, betas, eps, weight_decay, decoupled: (
    lambda seen: (
        x * (1 - lr * weight_decay * bool(decoupled))
        - lr * (blend(m, seen, betas[0]) / (1 - betas[0] ** t))
        / (np.sqrt(blend(v, seen**2, betas[1]) / (1 - betas[1] ** t)) + eps),
        blend(m, seen, betas[0]),
        blend(v, seen**2, betas[1]),
    )
)(g + weight_decay * x * (not decoupled))
""",
            "as-penalty": """\
as_penalty = lambda lr, momentum, weight_decay, x0: (
    momentum * (1 - lr * weight_decay), weight_decay * (1 - momentum), x0 / (1 / weight_decay - lr)
    if weight_decay else 0 * x0
)
""",
            "invariant-gradient": """\
invariant_gradient = lambda w, u: (
    (u - w * (u * w).sum(1, keepdims=True) / (w * w).sum(1, keepdims=True)) / np.sqrt((w * w).sum(1, keepdims=True))
)
""",
            "sgdp-step": """\
norm = lambda a: np.linalg.norm(a, axis=1, keepdims=True)
dot = lambda a, b: (a * b).sum(axis=1, keepdims=True)
sgdp_step = lambda w, m, g, lr, momentum, delta: (
    w - lr * (
        (momentum * m + g)
        - (np.abs(dot(w, g)) < delta / w.shape[1] ** 0.5 * norm(w) * norm(g)).all()
        * dot(momentum * m + g, w) / norm(w) ** 2 * w
    ),
    momentum * m + g,
)
""",
        },
    ),
]
