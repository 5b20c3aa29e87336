"""Correct solutions of lab 02 in other styles; each keeps every point."""

from grading_cases import Variant

#: What students call their variables, although Python has functions of these names (the given figure calls float).
OWN_NAMES = """\
sum, max, min, len, range, abs, round = 0, 10, -1, 4, [1, 2], 0.5, 3
str, list, dict, type, id, input, set, bool, int = "s", [3], {}, "noise", 7, [1.0], {1}, True, 2
all, any, iter, next, map, filter, sorted, pow, hash, vars, format, slice = ([0.0],) * 12
for k in [1, 2, 3]:
    sum += k
"""

VARIANTS = [
    Variant(
        "loops over samples, seeds and coordinates",
        cells={
            "minibatch-gradient": """\
def minibatch_gradient(A, b, x, batch):
    g = np.zeros(len(x))
    for i in batch:
        error = -b[i]
        for j in range(len(x)):
            error += A[i, j] * x[j]
        for j in range(len(x)):
            g[j] += A[i, j] * error
    return g / len(batch)
""",
            "epoch-batches": """\
def epoch_batches(n_samples, batch_size, rng):
    indices = list(range(n_samples))
    rng.shuffle(indices)
    batches, batch = [], []
    for i in indices:
        batch.append(i)
        if len(batch) == batch_size:
            batches.append(np.array(batch))
            batch = []
    if batch:
        batches.append(np.array(batch))
    return batches
""",
            "sgd": """\
def sgd(gradient, x, lr, steps, rng):
    path = np.zeros((steps + 1,) + x.shape)
    path[0] = x
    k = 0
    while k < steps:
        path[k + 1] = path[k] - lr(k) * gradient(path[k], rng)
        k += 1
    return path
""",
            "batch-variance": """\
def batch_variance(G, batch_size, replace):
    N, d = G.shape
    mean = [sum(G[i, j] for i in range(N)) / N for j in range(d)]
    sigma2 = 0.0
    for i in range(N):
        for j in range(d):
            sigma2 += (G[i, j] - mean[j]) ** 2 / N
    if replace:
        return sigma2 / batch_size
    else:
        return sigma2 / batch_size * (N - batch_size) / (N - 1)
""",
            "measured-rate": """\
def measured_rate(x, samples):
    slopes = []
    for seed in samples:
        slope, intercept = np.polyfit(np.log(x), np.log(seed), 1)
        slopes.append(slope)
    mean = sum(slopes) / len(slopes)
    variance = sum((slope - mean) ** 2 for slope in slopes) / (len(slopes) - 1)
    return mean, (variance / len(slopes)) ** 0.5
""",
            "expected-loss": """\
def expected_loss(eigenvalues, x0, noise, lr, steps):
    losses = np.zeros(steps + 1)
    for i in range(len(x0)):
        m = x0[i] ** 2
        for k in range(steps + 1):
            losses[k] += eigenvalues[i] * m / 2
            m = (1 - lr * eigenvalues[i]) ** 2 * m + lr**2 * noise[i]
    return losses
""",
            "noise-floor": """\
def noise_floor(eigenvalues, noise, lr):
    floor = 0
    for l, s in zip(eigenvalues, noise):
        m = lr**2 * s / (1 - (1 - lr * l) ** 2)
        floor += l * m / 2
    return floor
""",
            "best-lr": """\
def best_lr(L, delta0, sigma2, batch_size, steps):
    lr = 1 / L
    if sigma2 > 0:
        flat = (2 * delta0 * batch_size / (L * sigma2 * steps)) ** 0.5
        if flat < lr:
            lr = flat
    return lr
""",
            "steps-needed": """\
def steps_needed(L, delta0, sigma2, batch_size, eps):
    def promise(T):
        return 2 * L * delta0 / T + (8 * L * delta0 * sigma2 / (batch_size * T)) ** 0.5

    high = 1
    while promise(high) > eps:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if promise(middle) <= eps:
            high = middle
        else:
            low = middle
    return high
""",
        },
    ),
    Variant(
        "in place wherever nothing is said against it",
        cells={
            "minibatch-gradient": """\
def minibatch_gradient(A, b, x, batch):
    rows = A[batch]
    error = rows @ x
    error -= b[batch]
    rows *= error[:, None]
    return rows.mean(axis=0)
""",
            "epoch-batches": """\
def epoch_batches(n_samples, batch_size, rng):
    order = np.arange(n_samples)
    rng.shuffle(order)
    return np.split(order, range(batch_size, n_samples, batch_size))
""",
            "sgd": """\
def sgd(gradient, x, lr, steps, rng):
    path = [x.copy()]
    for k in range(steps):
        g = gradient(x, rng)
        g *= lr(k)
        x -= g
        path.append(x.copy())
    return np.array(path)
""",
            "batch-variance": """\
def batch_variance(G, batch_size, replace):
    N = len(G)
    G -= G.mean(axis=0)
    sigma2 = (G * G).sum() / N
    sigma2 /= batch_size
    if not replace:
        sigma2 *= (N - batch_size) / (N - 1)
    return sigma2
""",
            "measured-rate": """\
def measured_rate(x, samples):
    np.log(x, out=x)
    np.log(samples, out=samples)
    x -= x.mean()
    samples -= samples.mean(axis=1, keepdims=True)
    slopes = samples @ x
    slopes /= x @ x
    return slopes.mean(), slopes.std(ddof=1) / len(slopes) ** 0.5
""",
            "noise-floor": """\
def noise_floor(eigenvalues, noise, lr):
    floor = noise * lr
    floor /= 2 - lr * eigenvalues
    floor *= 0.5
    return np.sum(floor)
""",
            "expected-loss": """\
def expected_loss(eigenvalues, x0, noise, lr, steps):
    m, losses = x0 * x0, np.empty(steps + 1)
    for k in range(steps):
        losses[k] = m @ eigenvalues / 2
        m *= np.square(1 - lr * eigenvalues)
        m += noise * lr**2
    losses[-1] = m @ eigenvalues / 2
    return losses
""",
        },
    ),
    Variant(
        "torch inside, arrays come back",
        cells={
            "minibatch-gradient": """\
import torch


def minibatch_gradient(A, b, x, batch):
    x = torch.tensor(x, requires_grad=True)
    rows, right = torch.from_numpy(A)[batch], torch.from_numpy(b)[batch]
    (((rows @ x - right) ** 2).mean() / 2).backward()
    return x.grad.numpy()
""",
            "epoch-batches": """\
def epoch_batches(n_samples, batch_size, rng):
    return [batch.numpy() for batch in torch.from_numpy(rng.permutation(n_samples)).split(batch_size)]
""",
            "sgd": """\
def sgd(gradient, x, lr, steps, rng):
    p = torch.nn.Parameter(torch.tensor(x, dtype=torch.float64))
    optimizer, path = torch.optim.SGD([p], lr=1.0), [p.detach().clone()]
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = lr(k)
        p.grad = torch.from_numpy(np.array(gradient(p.detach().numpy().copy(), rng)))
        optimizer.step()
        path.append(p.detach().clone())
    return torch.stack(path).numpy()
""",
            "batch-variance": """\
def batch_variance(G, batch_size, replace):
    G = torch.from_numpy(G)
    sigma2 = G.var(dim=0, correction=0).sum().item()
    return sigma2 / batch_size * (1.0 if replace else (len(G) - batch_size) / (len(G) - 1))
""",
            "measured-rate": """\
def measured_rate(x, samples):
    x = torch.log(torch.tensor(x))
    design = torch.stack([x, torch.ones_like(x)], dim=1)
    slopes = torch.linalg.lstsq(design, torch.log(torch.tensor(samples)).T).solution[0]
    return slopes.mean().item(), (slopes.std() / len(slopes) ** 0.5).item()
""",
            "expected-loss": """\
def expected_loss(eigenvalues, x0, noise, lr, steps):
    l, s = torch.tensor(eigenvalues), torch.tensor(noise)
    m = [torch.tensor(x0) ** 2]
    for _ in range(steps):
        m.append((1 - lr * l) ** 2 * m[-1] + lr**2 * s)
    return (torch.stack(m) @ l / 2).numpy()
""",
            "noise-floor": """\
def noise_floor(eigenvalues, noise, lr):
    l, s = torch.tensor(eigenvalues), torch.tensor(noise)
    return (lr * s / (2 - lr * l)).sum().item() / 2
""",
        },
    ),
    Variant(
        "helper functions with the names that tests like to use",
        cells={
            "minibatch-gradient": "def minibatch_gradient(A, b, x, batch):\n    return full(A[batch], b[batch], x)\n",
            "epoch-batches": """\
def epoch_batches(n_samples, batch_size, rng):
    order, batches = again(rng, n_samples), []
    while len(order):
        first, order = both(order, batch_size)
        batches.append(first)
    return batches
""",
            "sgd": """\
def sgd(gradient, x, lr, steps, rng):
    return np.stack(list(walk(gradient, x, lr, steps, rng)))
""",
            "batch-variance": """\
def batch_variance(G, batch_size, replace):
    return means(G, 2) / batch_size * (1 if replace else how(len(G), batch_size))
""",
            "measured-rate": """\
def measured_rate(x, samples):
    slopes = pair(np.log(x), np.log(samples))
    return slopes.mean(), bumps(slopes)
""",
            "expected-loss": """\
def expected_loss(eigenvalues, x0, noise, lr, steps):
    m, losses = x0**2, []
    for k in range(steps + 1):
        losses.append(halves(eigenvalues, m))
        m = one(m, eigenvalues, noise, lr)
    return np.array(losses)
""",
            "noise-floor": """\
def noise_floor(eigenvalues, noise, lr):
    return halves(eigenvalues, small(eigenvalues, noise, lr))
""",
            "bound": """\
def bound(L, delta0, sigma2, batch_size, steps, lr):
    return setting(delta0, lr, steps) + better(L, lr, sigma2, batch_size)
""",
            "best-lr": """\
def best_lr(L, delta0, sigma2, batch_size, steps):
    return min(1 / L, factor(delta0, batch_size, L, sigma2, steps))
""",
            "steps-needed": """\
def steps_needed(L, delta0, sigma2, batch_size, eps):
    a, c = case(L, delta0, sigma2, batch_size)
    return T(a, c, eps)
""",
        },
        helpers={
            "minibatch-gradient": """\
import math

def full(A, b, x):
    return (A @ x - b) @ A / len(b)

def again(rng, n):
    return rng.permutation(n)

def both(order, n):
    return order[:n], order[n:]

def walk(gradient, x, lr, steps, rng):
    yield x
    for k in range(steps):
        x = x - lr(k) * gradient(x, rng)
        yield x

def means(G, power):
    return (np.abs(G - G.mean(axis=0)) ** power).sum(axis=1).mean()

def how(N, B):
    return (N - B) / (N - 1)

def pair(log_x, log_y):
    return np.polynomial.polynomial.polyfit(log_x, log_y.T, 1)[1]

def bumps(slopes):
    return np.sqrt(slopes.var(ddof=1) / slopes.size)

def halves(eigenvalues, m):
    return 0.5 * np.dot(eigenvalues, m)

def one(m, l, s, lr):
    return (1 - lr * l) ** 2 * m + lr**2 * s

def small(l, s, lr):
    return lr * s / (l * (2 - lr * l))

def setting(delta0, lr, steps):
    return 2 * delta0 / (lr * steps)

def better(L, lr, sigma2, B):
    return L * lr * sigma2 / B

def factor(delta0, B, L, sigma2, steps):
    return math.sqrt(2 * delta0 * B / (L * sigma2 * steps)) if sigma2 else math.inf

def case(L, delta0, sigma2, B):
    return 2 * L * delta0, math.sqrt(8 * L * delta0 * sigma2 / B)

def T(a, c, eps):
    root = (c + math.sqrt(c * c + 4 * a * eps)) / (2 * eps)
    return math.ceil(root * root)
""",
        },
    ),
    Variant(
        "more such names, for the numbers that a student looks at between the exercises",
        cells={
            "minibatch-gradient": """\
def minibatch_gradient(A, b, x, batch):
    return np.mean([A[i] * (A[i] @ x - b[i]) * means for i in batch], axis=size)
""",
            "epoch-batches": """\
def epoch_batches(n_samples, batch_size, rng):
    order = rng.choice(n_samples, n_samples, replace=False) + size
    return [order[i * batch_size :][:batch_size] for i in range(-(-n_samples // batch_size))]
""",
            "batch-variance": """\
def batch_variance(G, batch_size, replace):
    n = len(G)
    sigma2 = G.var(axis=size).sum()
    return sigma2 / batch_size if replace else sigma2 / batch_size * (n - batch_size) / (n - means)
""",
            "measured-rate": """\
def measured_rate(x, samples):
    slopes = [product(np.log(x), np.log(row)) for row in samples]
    return np.mean(slopes), np.std(slopes, ddof=means) / len(slopes) ** 0.5
""",
            "bound": """\
def bound(L, delta0, sigma2, batch_size, steps, lr):
    return T * delta0 / (lr * steps) + band * lr * sigma2 * L / batch_size
""",
        },
        helpers={
            "minibatch-gradient": """\
size, means, T, band, how, figure, theory, combinations = 0, 1, 2, 1, "with", 3, "02.4", [1, 2]
A, b, x, G, rng, replace, batches, lr, one, case, first, walk = (None,) * 12

def product(x, y):
    x = x - x.mean()
    return x @ y / (x @ x)
""",
        },
    ),
    Variant(
        "own variables that are called sum, max, list, str and so on",
        cells={
            "minibatch-gradient": """\
def minibatch_gradient(A, b, x, batch):
    sum = 0 * x
    for i in batch:
        sum = sum + A[i] * (A[i] @ x - b[i])
    return sum / np.size(batch)
""",
            "epoch-batches": """\
def epoch_batches(n_samples, batch_size, rng):
    list, next = rng.permutation(n_samples), []
    while list.size:
        next += [list[:batch_size]]
        list = list[batch_size:]
    return next
""",
            "sgd": """\
def sgd(gradient, x, lr, steps, rng):
    list = [np.array(x, dtype=np.float64)]
    for iter in np.arange(steps):
        list.append(list[-1] - lr(iter) * gradient(list[-1], rng))
    return np.stack(list)
""",
            "batch-variance": """\
def batch_variance(G, batch_size, replace):
    len, _ = G.shape
    var = np.sum(np.var(G, axis=0)) / batch_size
    return var if replace else var * (len - batch_size) / (len - 1)
""",
            "measured-rate": """\
def measured_rate(x, samples):
    input = np.log(x)
    id = [np.polyfit(input, np.log(row), deg=1)[0] for row in samples]
    return [np.mean(id), np.std(id, ddof=1) / np.sqrt(np.size(id))]
""",
            "expected-loss": """\
def expected_loss(eigenvalues, x0, noise, lr, steps):
    list, pow = [], x0 * x0
    for _ in np.arange(steps + 1):
        list += [0.5 * eigenvalues @ pow]
        pow = (1 - lr * eigenvalues) ** 2 * pow + lr * lr * noise
    return np.array(list)
""",
            "noise-floor": """\
def noise_floor(eigenvalues, noise, lr):
    sum = 0.0
    for type, str in zip(eigenvalues, noise):
        sum += 0.5 * lr * str / (2 - lr * type)
    return sum
""",
            "best-lr": """\
def best_lr(L, delta0, sigma2, batch_size, steps):
    max = 1 / L
    with np.errstate(divide="ignore"):
        min = np.sqrt(np.float64(2 * delta0 * batch_size) / (L * sigma2 * steps))
    return min if min < max else max
""",
            "steps-needed": """\
def steps_needed(L, delta0, sigma2, batch_size, eps):
    sum, round = 2 * L * delta0, np.sqrt(8 * L * delta0 * sigma2 / batch_size)
    int = np.roots([sum, round, -eps]).max()
    return np.ceil(1 / int**2).astype("int64")
""",
        },
        helpers={"minibatch-gradient": OWN_NAMES},
    ),
    Variant(
        "from numpy import *, from math import *",
        cells={
            "minibatch-gradient": """\
from math import *

from numpy import *


def minibatch_gradient(A, b, x, batch):
    return transpose(A[batch]) @ (A[batch] @ x - b[batch]) / size(batch)
""",
            "sgd": """\
def sgd(gradient, x, lr, steps, rng):
    path = empty((steps + 1, *x.shape))
    path[0] = x
    for k in arange(steps):
        path[k + 1] = path[k] - multiply(lr(k), gradient(path[k], rng))
    return path
""",
            "batch-variance": """\
def batch_variance(G, batch_size, replace):
    sigma2 = mean(sum((G - mean(G, axis=0)) ** 2, axis=1))
    return sigma2 / batch_size * where(replace, 1, (len(G) - batch_size) / (len(G) - 1))
""",
            "measured-rate": """\
def measured_rate(x, samples):
    slopes = [cov(log(x), log(row))[0, 1] / var(log(x), ddof=1) for row in samples]
    return average(slopes), std(slopes, ddof=1) / sqrt(len(slopes))
""",
            "best-lr": """\
def best_lr(L, delta0, sigma2, batch_size, steps):
    return min([1 / L, sqrt(2 * delta0 * batch_size / (L * sigma2 * steps)) if sigma2 else inf])
""",
            "steps-needed": """\
def steps_needed(L, delta0, sigma2, batch_size, eps):
    a, c = 2 * L * delta0, sqrt(8 * L * delta0 * sigma2 / batch_size)
    return max([1, ceil(((c + sqrt(c**2 + 4 * a * eps)) / (2 * eps)) ** 2)])
""",
        },
    ),
    Variant(
        "lambdas and conditional expressions",
        cells={
            "minibatch-gradient": """\
minibatch_gradient = lambda A, b, x, batch: A[batch].T.dot(A[batch].dot(x) - b[batch]) / len(batch)
""",
            "epoch-batches": """\
cut = lambda order, n: [order] if len(order) <= n else [order[:n]] + cut(order[n:], n)
epoch_batches = lambda n_samples, batch_size, rng: cut(rng.permutation(n_samples), batch_size)
""",
            "batch-variance": """\
batch_variance = lambda G, batch_size, replace: (
    np.trace(np.cov(G.T, bias=replace)) / batch_size * (1 if replace else (len(G) - batch_size) / len(G))
)
""",
            "measured-rate": """\
rates = lambda x, y: ((x - x.mean()) * (y - y.mean(axis=1, keepdims=True))).sum(axis=1) / ((x - x.mean()) ** 2).sum()
error = lambda p: (p.mean(), p.std(ddof=1) / len(p) ** 0.5)
measured_rate = lambda x, samples: error(rates(np.log(x), np.log(samples)))
""",
            "noise-floor": """\
noise_floor = lambda eigenvalues, noise, lr: np.divide(lr * noise, 4 - 2 * lr * eigenvalues).sum()
""",
            "bound": """\
bound = lambda L, delta0, sigma2, batch_size, steps, lr: L * lr * sigma2 / batch_size + delta0 / lr / steps * 2
""",
            "best-lr": """\
best_lr = lambda L, delta0, sigma2, batch_size, steps: (
    1 / L if 2 * delta0 * batch_size * L >= sigma2 * steps else (2 * delta0 * batch_size / (L * sigma2 * steps)) ** 0.5
)
""",
        },
    ),
    Variant(
        "objects that can be called",
        cells={
            "minibatch-gradient": """\
class LeastSquares:
    def __init__(self, A, b):
        self.A, self.b = A, b

    def __getitem__(self, batch):
        return LeastSquares(self.A[batch], self.b[batch])

    def gradient(self, x):
        return self.A.T @ (self.A @ x - self.b) / len(self.b)


def minibatch_gradient(A, b, x, batch):
    return LeastSquares(A, b)[batch].gradient(x)
""",
            "epoch-batches": """\
class Loader:
    def __init__(self, n, size):
        self.n, self.size = n, size

    def __iter__(self):
        order = self.rng.permutation(self.n)
        for start in range(0, self.n, self.size):
            yield order[start : start + self.size]

    def __call__(self, rng):
        self.rng = rng
        return list(self)


def epoch_batches(n_samples, batch_size, rng):
    return Loader(n_samples, batch_size)(rng)
""",
            "sgd": """\
class SGD:
    def __init__(self, x):
        self.path = [np.array(x, dtype=float)]

    @property
    def x(self):
        return self.path[-1]

    def step(self, g, lr):
        self.path.append(self.x - lr * g)

    def __call__(self, gradient, x, lr, steps, rng):
        run = SGD(x)
        for k in range(steps):
            run.step(gradient(run.x, rng), lr(k))
        return np.stack(run.path)


sgd = SGD(0.0)
""",
            "expected-loss": """\
from dataclasses import dataclass


@dataclass
class Moments:
    l: np.ndarray
    m: np.ndarray
    s: np.ndarray

    @property
    def loss(self):
        return (self.l * self.m).sum() / 2

    def after(self, lr):
        return Moments(self.l, (1 - lr * self.l) ** 2 * self.m + lr**2 * self.s, self.s)


def expected_loss(eigenvalues, x0, noise, lr, steps):
    state, losses = Moments(eigenvalues, x0**2, noise), []
    for _ in range(steps):
        losses.append(state.loss)
        state = state.after(lr)
    return np.array([*losses, state.loss])
""",
            "bound": """\
class Bound:
    def __call__(self, L, delta0, sigma2, batch_size, steps, lr):
        return 2 * delta0 / (lr * steps) + L * lr * sigma2 / batch_size


bound = Bound()
""",
            "best-lr": """\
class Best(Bound):
    def __call__(self, L, delta0, sigma2, batch_size, steps):
        candidates = [1 / L]
        if sigma2:
            candidates.append(np.sqrt(2 * delta0 * batch_size / (L * sigma2 * steps)))
        allowed = [lr for lr in candidates if lr <= 1 / L]
        return min(allowed, key=lambda lr: Bound.__call__(self, L, delta0, sigma2, batch_size, steps, lr))


best_lr = Best()
""",
        },
    ),
    Variant(
        "recursion",
        cells={
            "epoch-batches": """\
def epoch_batches(n_samples, batch_size, rng):
    def cut(order):
        if len(order) == 0:
            return []
        return [order[:batch_size], *cut(order[batch_size:])]

    return cut(rng.permutation(n_samples))
""",
            "expected-loss": """\
def expected_loss(eigenvalues, x0, noise, lr, steps):
    def moment(k):
        if k in known:
            return known[k]
        known[k] = (1 - lr * eigenvalues) ** 2 * moment(k - 1) + lr**2 * noise
        return known[k]

    known = {0: x0**2}
    return np.array([eigenvalues @ moment(k) / 2 for k in range(steps + 1)])
""",
            "noise-floor": """\
def noise_floor(eigenvalues, noise, lr):
    if len(eigenvalues) == 0:
        return 0
    return lr * noise[0] / (2 - lr * eigenvalues[0]) / 2 + noise_floor(eigenvalues[1:], noise[1:], lr)
""",
            "steps-needed": """\
def steps_needed(L, delta0, sigma2, batch_size, eps):
    def enough(T):
        return 2 * L * delta0 / T + np.sqrt(8 * L * delta0 * sigma2 / (batch_size * T)) <= eps

    def between(low, high):
        if high - low == 1:
            return high
        middle = (low + high) // 2
        return between(low, middle) if enough(middle) else between(middle, high)

    return between(0, 2**60)
""",
        },
    ),
    Variant(
        "functools, itertools and tuples",
        cells={
            "epoch-batches": """\
from itertools import accumulate, chain, islice, repeat, takewhile


def epoch_batches(n_samples, batch_size, rng):
    order = iter(rng.permutation(n_samples))
    return tuple(takewhile(np.size, (np.array([*islice(order, batch_size)]) for _ in repeat(None))))
""",
            "sgd": """\
def sgd(gradient, x, lr, steps, rng):
    step = lambda x, k: x - lr(k) * gradient(x, rng)
    return np.stack(tuple(accumulate(range(steps), step, initial=np.asarray(x, dtype=float))))
""",
            "minibatch-gradient": """\
from functools import partial, reduce


def minibatch_gradient(A, b, x, batch):
    one = lambda g, i: g + A[i] * (A[i].dot(x) - b[i])
    return reduce(one, batch, np.zeros_like(x)) / len(batch)
""",
            "measured-rate": """\
def measured_rate(x, samples):
    slope = partial(lambda log_x, row: np.polyfit(log_x, np.log(row), 1)[0], np.log(x))
    slopes = np.fromiter(map(slope, samples), float)
    return np.array([slopes.mean(), slopes.std(ddof=1) / np.sqrt(slopes.size)])
""",
            "expected-loss": """\
def expected_loss(eigenvalues, x0, noise, lr, steps):
    step = lambda m, _: m * (1 - lr * eigenvalues) ** 2 + noise * lr**2
    moments = islice(accumulate(chain([x0**2], repeat(None)), step), steps + 1)
    return np.fromiter((eigenvalues @ m / 2 for m in moments), float)
""",
            "bound": """\
def terms(delta0, sigma2, *, L, batch_size, steps, lr):
    yield 2 * delta0 / (lr * steps)
    yield L * lr * sigma2 / batch_size


def bound(L, delta0, sigma2, batch_size, steps, lr):
    return sum(partial(terms, L=L, lr=lr)(delta0, sigma2, steps=steps, batch_size=batch_size))
""",
        },
    ),
    Variant(
        "type hints, early returns, checks of the arguments",
        cells={
            "minibatch-gradient": """\
from collections.abc import Callable

import numpy.typing as npt

Array = npt.NDArray[np.float64]


def minibatch_gradient(A: Array, b: Array, x: Array, batch: npt.NDArray[np.integer]) -> Array:
    if len(batch) == 1:
        (i,) = batch
        return A[i] * (A[i] @ x - b[i])
    total: Array = np.zeros(A.shape[1])
    for i, times in zip(*np.unique(batch, return_counts=True), strict=True):
        total += times * A[i] * (A[i] @ x - b[i])
    return total / len(batch)
""",
            "batch-variance": """\
def batch_variance(G: npt.NDArray[np.floating], batch_size: int, replace: bool) -> float:
    n: int = G.shape[0]
    if not replace and batch_size > n:
        raise ValueError(f"{batch_size} of {n} rows, each once?")
    if not replace and batch_size == n:
        return 0.0
    sigma2: float = float(np.linalg.norm(G - G.mean(axis=0, dtype=np.float64)) ** 2 / n)
    if replace:
        return sigma2 / batch_size
    return sigma2 / batch_size * (n - batch_size) / (n - 1)
""",
            "sgd": '''\
def sgd(
    gradient: Callable[[Array, np.random.Generator], Array],
    x: Array,
    lr: Callable[[int], float],
    steps: int,
    rng: np.random.Generator | None,
) -> Array:
    """SGD; the whole path."""
    path: list[Array] = [np.asarray(x)]
    if steps == 0:
        return np.asarray(path)
    for k in range(steps):
        now: Array = path[-1]
        path.append(now - gradient(now, rng) * lr(k))
    return np.asarray(path)
''',
            "best-lr": """\
def best_lr(L: float, delta0: float, sigma2: float, batch_size: int, steps: int) -> float:
    if sigma2 == 0.0:
        return L**-1
    unconstrained: float = float(np.sqrt(2.0 * delta0 * batch_size) / np.sqrt(L * sigma2 * steps))
    return float(np.clip(unconstrained, 0.0, 1.0 / L))
""",
            "steps-needed": """\
def steps_needed(L: float, delta0: float, sigma2: float, batch_size: int, eps: float) -> int:
    if not eps > 0:
        raise ValueError(eps)
    a: float = 2 * L * delta0
    if sigma2 == 0:
        return max(1, int(np.ceil(a / eps)))
    c: float = (8 * L * delta0 * sigma2 / batch_size) ** 0.5
    u: float = 2 * eps / (c + (c * c + 4 * a * eps) ** 0.5)
    return max(1, int(np.ceil(u**-2)))
""",
        },
    ),
    Variant(
        "decorators and caches",
        cells={
            "minibatch-gradient": """\
import functools

CALLS = {}


def counted(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        CALLS[function.__name__] = CALLS.get(function.__name__, 0) + 1
        return function(*args, **kwargs)

    return inner


@counted
def minibatch_gradient(A, b, x, batch):
    rows = A.take(batch, axis=0)
    return np.average(rows * (rows @ x - b.take(batch))[:, None], axis=0)
""",
            "measured-rate": """\
@np.vectorize(signature="(n),(n)->()")
def slope(log_x, log_y):
    return np.linalg.lstsq(np.vander(log_x, 2), log_y, rcond=None)[0][0]


@counted
def measured_rate(x, samples):
    p = slope(np.log(x), np.log(samples))
    return p.mean(), np.sqrt(((p - p.mean()) ** 2).sum() / (len(p) - 1) / len(p))
""",
            "noise-floor": """\
@counted
@functools.cache
def floor_of_one(l, s, lr):
    return lr * s / (2 * (2 - lr * l))


def noise_floor(eigenvalues, noise, lr):
    return sum(map(floor_of_one, eigenvalues.tolist(), noise.tolist(), [lr] * len(noise)))
""",
            "bound": """\
@functools.lru_cache
def bound(L, delta0, sigma2, batch_size, steps, lr):
    return 2 * delta0 / (lr * steps) + L * lr * sigma2 / batch_size
""",
            "best-lr": """\
@functools.lru_cache(maxsize=None)
@counted
def best_lr(*, L=None, delta0=None, sigma2=None, batch_size=None, steps=None):
    return min(1 / L, np.sqrt(2 * delta0 * batch_size / (L * sigma2 * steps)) if sigma2 else np.inf)


by_name = best_lr


def best_lr(L, delta0, sigma2, batch_size, steps):
    return by_name(steps=steps, batch_size=batch_size, sigma2=sigma2, delta0=delta0, L=L)
""",
            "steps-needed": """\
@counted
def steps_needed(L, delta0, sigma2, batch_size, eps):
    key = (L, delta0, sigma2, batch_size, eps)
    if key not in steps_needed.known:
        B, d, s = batch_size, L * delta0, sigma2
        root = np.sqrt(8 * d * s / B) + np.sqrt(8 * d * s / B + 8 * d * eps)
        steps_needed.known[key] = int(np.ceil((root / (2 * eps)) ** 2))
    return steps_needed.known[key]


steps_needed.known = {}
""",
        },
    ),
    Variant(
        "Python's own numbers, lists and float32 inside",
        cells={
            "minibatch-gradient": """\
def minibatch_gradient(A, b, x, batch):
    A, b, x = A.tolist(), b.tolist(), x.tolist()
    g = [0.0] * len(x)
    for i in batch.tolist():
        error = sum(a * c for a, c in zip(A[i], x)) - b[i]
        g = [old + a * error / len(batch) for old, a in zip(g, A[i])]
    return np.array(g)
""",
            "epoch-batches": """\
def epoch_batches(n_samples, batch_size, rng):
    order = rng.permutation(n_samples).astype(np.int32).tolist()
    return [order[i : i + batch_size] for i in range(0, n_samples, batch_size)]
""",
            "batch-variance": """\
def batch_variance(G, batch_size, replace):
    import statistics

    sigma2 = sum(statistics.pvariance(column) for column in np.asarray(G, dtype=float).T.tolist())
    return sigma2 * (1 / batch_size if replace else (len(G) / batch_size - 1) / (len(G) - 1))
""",
            "measured-rate": """\
def measured_rate(x, samples):
    from statistics import linear_regression, mean, stdev

    log_x = [float(np.log(point)) for point in x]
    slopes = [linear_regression(log_x, np.log(row).tolist()).slope for row in samples]
    return [mean(slopes), stdev(slopes) / len(slopes) ** 0.5]
""",
            "noise-floor": """\
def noise_floor(eigenvalues, noise, lr):
    import math

    return math.fsum(lr * s / (4 - 2 * lr * l) for l, s in zip(eigenvalues, noise))
""",
            "steps-needed": """\
def steps_needed(L, delta0, sigma2, batch_size, eps):
    from decimal import ROUND_CEILING, Decimal, getcontext

    getcontext().prec = 50
    L, delta0, sigma2, B, eps = map(Decimal, (L, delta0, sigma2, batch_size, eps))
    a, c = 2 * L * delta0, (8 * L * delta0 * sigma2 / B).sqrt()
    T = ((c + (c * c + 4 * a * eps).sqrt()) / (2 * eps)) ** 2
    return float(T.to_integral_value(ROUND_CEILING))
""",
        },
    ),
    Variant(
        "closed forms and matrices in place of loops",
        cells={
            "minibatch-gradient": """\
def minibatch_gradient(A, b, x, batch):
    v = np.bincount(batch, minlength=len(A)) / len(batch)
    chosen = np.flatnonzero(v)
    return np.einsum("n,nd,n->d", v[chosen], A[chosen], np.einsum("nd,d->n", A[chosen], x) - b[chosen])
""",
            "epoch-batches": """\
def epoch_batches(n_samples, batch_size, rng):
    order = np.argsort(rng.random(n_samples))
    return np.array_split(order, np.arange(batch_size, n_samples, batch_size))
""",
            "batch-variance": """\
def batch_variance(G, batch_size, replace):
    N, B = len(G), batch_size
    if replace:
        cov = (np.eye(N) - 1 / N) * N / B
    else:
        cov = (np.eye(N) - 1 / N) * N * (N - B) / (B * (N - 1))
    return (cov * (G @ G.T)).sum() / N**2
""",
            "measured-rate": """\
def measured_rate(x, samples):
    log_x, log_y = np.log(x), np.log(samples)
    n = len(x)
    slopes = (n * log_y @ log_x - log_y.sum(axis=1) * log_x.sum()) / (n * log_x @ log_x - log_x.sum() ** 2)
    return np.mean(slopes), np.sqrt(np.var(slopes, ddof=1) / len(slopes))
""",
            "expected-loss": """\
def expected_loss(eigenvalues, x0, noise, lr, steps):
    k = np.arange(steps + 1)[:, None]
    a = (1 - lr * eigenvalues) ** 2
    rest = lr * noise / (eigenvalues * (2 - lr * eigenvalues))
    return 0.5 * (a**k * (x0**2 - rest) + rest) @ eigenvalues
""",
            "noise-floor": """\
def noise_floor(eigenvalues, noise, lr):
    I, step = np.eye(len(noise)), np.diag((1 - lr * eigenvalues) ** 2)
    return 0.5 * eigenvalues @ np.linalg.solve(I - step, lr**2 * noise)
""",
            "best-lr": """\
def best_lr(L, delta0, sigma2, batch_size, steps):
    from scipy.optimize import minimize_scalar

    f = lambda lr: 2 * delta0 / (lr * steps) + L * lr * sigma2 / batch_size
    found = minimize_scalar(f, bounds=(1e-12, 1 / L), method="bounded", options={"xatol": 1e-14}).x
    guess = np.sqrt(2 * delta0 * batch_size / max(L * sigma2 * steps, 1e-300))
    return min([lr for lr in (1 / L, guess) if lr <= 1 / L], key=lambda lr: abs(lr - found))
""",
        },
    ),
    Variant(
        "prints, plots, scratch cells and tests of one's own",
        cells={
            "epoch-batches": """\
import random
import warnings

warnings.simplefilter("error")
random.seed(1)
np.random.seed(1)
rng = np.random.default_rng(0)


def epoch_batches(n_samples, batch_size, rng):
    print(n_samples, "samples")
    order = rng.permutation(np.arange(n_samples))
    batches = [order[i : min(i + batch_size, n_samples)] for i in range(0, n_samples, batch_size)]
    assert sum(map(len, batches)) == n_samples
    return batches


first = epoch_batches(10, 3, rng)
first
""",
            "sgd": """\
def sgd(gradient, x, lr, steps, rng):
    x = 1.0 * x
    path = x[np.newaxis]
    for k in range(steps):
        g = gradient(x, rng)
        if k % 1000 == 999:
            print(f"{k + 1} steps")
        x = x - lr(k) * g
        path = np.append(path, x[np.newaxis], axis=0)
    return path


walk = sgd(lambda x, rng: rng.normal(size=2), np.zeros(2), lambda k: 1.0, 50, rng)
plt.plot(*walk.T)
plt.show()
""",
            "measured-rate": """\
def measured_rate(x, samples):
    p, _ = np.polyfit(np.log(x), np.log(samples).T, 1)
    return p.mean(), p.std(ddof=1) / len(p) ** 0.5


x = np.logspace(0, 3, 7)
print("%.3f ± %.3f" % measured_rate(x, 3 / x * np.exp(rng.normal(size=(5, 7)))))
""",
        },
        helpers={
            "batch-variance": "G = rng.normal(size=(4, 2))\nsize = 3\nreplace = True\nG",
            "bound": "%matplotlib inline\nL, delta0, sigma2, batch_size, steps, lr = 1, 1, 1, 1, 10, 0.1",
        },
    ),
]
