"""Correct solutions of lab 01 in other styles; each keeps every point."""

from grading_cases import Variant

#: What students call their variables, although Python has functions of these names.
OWN_NAMES = """\
sum, max, min, len, range, abs, round = 0, 10, -1, 4, [1, 2], 0.5, 3
str, list, dict, type, id, input, set, bool, int, float = "s", [3], {}, "SiLU", 7, [1.0], {1}, True, 2, 0.1
all, any, iter, next, map, filter, sorted, pow, hash, vars, format, slice = ([0.0],) * 12
for k in [1, 2, 3]:
    sum += k
"""

VARIANTS = [
    Variant(
        "loops over examples, classes and layers",
        cells={
            "softmax": """\
def softmax(s):
    p = np.zeros_like(s)
    N, C = s.shape
    for i in range(N):
        biggest = s[i, 0]
        for j in range(C):
            if s[i, j] > biggest:
                biggest = s[i, j]
        total = 0
        for j in range(C):
            p[i, j] = np.exp(s[i, j] - biggest)
            total += p[i, j]
        for j in range(C):
            p[i, j] /= total
    return p
""",
            "cross-entropy": """\
def cross_entropy(s, y):
    total = 0
    for i in range(len(s)):
        biggest = max(s[i])
        log_sum = biggest + np.log(sum(np.exp(score - biggest) for score in s[i]))
        total += log_sum - s[i][y[i]]
    return total / len(s)
""",
            "risk-gradient": """\
def risk_gradient(p, H, y):
    N, C = p.shape
    gradient = np.zeros((C, H.shape[1]))
    for i in range(N):
        for j in range(C):
            gradient[j] += (p[i, j] - (j == y[i])) * H[i] / N
    return gradient
""",
            "numerical-gradient": """\
def numerical_gradient(f, x, eps=1e-5):
    gradient = np.empty(x.shape)
    for i in np.ndindex(*x.shape):
        e = np.zeros(x.shape)
        e[i] = eps
        gradient[i] = (f(x + e) - f(x - e)) / 2 / eps
    return gradient
""",
            "backward": """\
def backward(X2, xi, z, d_yhat):
    d_X1, d_X2 = np.zeros((len(z), len(xi))), np.zeros(X2.shape)
    for b in range(xi.shape[1]):
        d_X2 += np.outer(d_yhat[:, b], z[:, b])
        d_X1 += np.outer(X2.T.dot(d_yhat[:, b]) * (1 - z[:, b] ** 2), xi[:, b])
    return d_X1, d_X2
""",
            "deep-gradients": """\
def deep_gradients(weights, xi, t):
    K, B = len(weights), xi.shape[1]
    gradients = [np.zeros(X.shape) for X in weights]
    f = 0.0
    for b in range(B):
        z = [xi[:, b]]
        for k in range(K):
            h = weights[k].dot(z[k])
            z.append(np.tanh(h) if k < K - 1 else h)
        delta = (z[K] - t[:, b]) / B
        f += B * np.sum(delta**2) / 2
        for k in range(K - 1, -1, -1):
            gradients[k] += np.outer(delta, z[k])
            delta = weights[k].T.dot(delta) * (1 - z[k] ** 2)
    return f, gradients
""",
            "activation-bytes": """\
def activation_bytes(widths, batch_size, itemsize=8, keep_h=False):
    numbers = 0
    for k in range(len(widths)):
        hidden = 0 < k < len(widths) - 1
        numbers += widths[k]
        if hidden and keep_h:
            numbers += widths[k]
    return numbers * batch_size * itemsize
""",
            "descend": """\
def descend(gradient, x, lr, steps):
    path = np.zeros((steps + 1, *x.shape))
    path[0] = x
    k = 0
    while k < steps:
        path[k + 1] = path[k] - lr * gradient(path[k])
        k = k + 1
    return path
""",
        },
    ),
    Variant(
        "in place wherever nothing is said against it",
        cells={
            "softmax": """\
def softmax(s):
    s -= s.max(1)[:, None]
    np.exp(s, out=s)
    s /= s.sum(1)[:, None]
    return s
""",
            "cross-entropy": """\
def cross_entropy(s, y):
    s -= s.max(axis=1, keepdims=True)
    right = s[range(len(y)), y].copy()
    np.exp(s, out=s)
    return np.mean(np.log(s.sum(axis=1)) - right)
""",
            "risk-gradient": """\
def risk_gradient(p, H, y):
    p[np.arange(len(y)), y] -= 1
    try:
        return p.T @ H / len(y)
    finally:
        p[np.arange(len(y)), y] += 1
""",
            "numerical-gradient": """\
def numerical_gradient(f, x, eps=1e-5):
    if x.dtype.kind != "f":
        x = x.astype(float)
    gradient = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] += eps
        gradient[i] = f(x)
        x[i] = kept - eps
        gradient[i] -= f(x)
        x[i] = kept
    gradient /= 2 * eps
    return gradient
""",
            "backward": """\
def backward(X2, xi, z, d_yhat):
    d_X2 = d_yhat @ z.T
    z *= z
    z -= 1
    z *= -1
    z *= X2.T @ d_yhat
    return z @ xi.T, d_X2
""",
            "deep-gradients": """\
def deep_gradients(weights, xi, t):
    z = [xi]
    for X in weights:
        h = X @ z[-1]
        z.append(np.tanh(h, out=h) if X is not weights[-1] else h)
    delta = z.pop()
    delta -= t
    f = np.vdot(delta, delta) / (2 * xi.shape[1])
    delta /= xi.shape[1]
    while weights:
        X, last = weights.pop(), z.pop()
        try:
            gradients.insert(0, delta @ last.T)
        except NameError:
            gradients = [delta @ last.T]
        last *= last
        delta = (X.T @ delta) * (1 - last)
    return f, gradients
""",
            "activation-bytes": """\
def activation_bytes(widths, batch_size, itemsize=8, keep_h=False):
    if keep_h:
        widths += widths[1:-1]
    total = 0
    while widths:
        total += widths.pop()
    total *= batch_size
    total *= itemsize
    return total
""",
            "descend": """\
def descend(gradient, x, lr, steps):
    path = [x.copy()]
    for _ in range(steps):
        g = gradient(x)
        g *= lr
        x -= g
        path.append(x.copy())
    return np.array(path)
""",
        },
    ),
    Variant(
        "torch inside, arrays come back",
        cells={
            "softmax": """\
def softmax(s):
    import torch

    return torch.softmax(torch.from_numpy(s), dim=1).numpy()
""",
            "cross-entropy": """\
import torch
import torch.nn.functional as F


def cross_entropy(s, y):
    return F.cross_entropy(torch.as_tensor(s), torch.as_tensor(y).long()).item()
""",
            "risk-gradient": """\
def risk_gradient(p, H, y):
    p, H, y = torch.tensor(p), torch.tensor(H), torch.tensor(y)
    return ((p - F.one_hot(y, p.shape[1])).T @ H / len(y)).numpy()
""",
            "numerical-gradient": """\
def numerical_gradient(f, x, eps=1e-5):
    x = torch.tensor(x, dtype=torch.float64)
    flat, gradient = x.view(-1), torch.zeros(x.numel(), dtype=torch.float64)
    for i in range(len(flat)):
        up, down = flat.clone(), flat.clone()
        up[i] += eps
        down[i] -= eps
        gradient[i] = (f(up.view(x.shape).numpy()) - f(down.view(x.shape).numpy())) / (2 * eps)
    return gradient.view(x.shape).numpy()
""",
            "backward": """\
def backward(X2, xi, z, d_yhat):
    X2, z = torch.tensor(X2, requires_grad=True), torch.tensor(z, requires_grad=True)
    (X2 @ z).backward(torch.tensor(d_yhat))
    return ((z.grad * (1 - z.detach() ** 2)) @ torch.tensor(xi).T).numpy(), X2.grad.numpy()
""",
            "deep-gradients": """\
def deep_gradients(weights, xi, t):
    weights = [torch.tensor(X, requires_grad=True) for X in weights]
    z, B = torch.tensor(xi), xi.shape[1]
    for X in weights[:-1]:
        z = torch.tanh(X @ z)
    f = ((weights[-1] @ z - torch.tensor(t)) ** 2).sum() / 2 / B
    f.backward()
    return f.item(), [X.grad.numpy() for X in weights]
""",
            "activation-bytes": """\
def activation_bytes(widths, batch_size, itemsize=8, keep_h=False):
    m = torch.tensor(widths)
    return int((m.sum() + (m[1:-1].sum() if keep_h else 0)) * batch_size * itemsize)
""",
            "descend": """\
def descend(gradient, x, lr, steps):
    path = [torch.tensor(x, dtype=torch.float64)]
    for _ in range(steps):
        path.append(path[-1] - lr * torch.from_numpy(np.asarray(gradient(path[-1].numpy()))))
    return torch.stack(path).numpy()
""",
        },
    ),
    Variant(
        "helper functions with the names that tests like to use",
        cells={
            "softmax": "def softmax(s):\n    return scores(by_hand(s))\n",
            "cross-entropy": """\
def cross_entropy(s, y):
    return -skewed(s)[x(y), y].mean()
""",
            "risk-gradient": "def risk_gradient(p, H, y):\n    return t(before(p, y)) @ H / len(y)\n",
            "numerical-gradient": """\
def numerical_gradient(f, x, eps=1e-5):
    return np.array([slope(f, grid(x), i, eps) for i in np.ndindex(x.shape)]).reshape(x.shape)
""",
            "backward": """\
def backward(X2, xi, z, d_yhat):
    return path(X2.T @ d_yhat, z) @ t(xi), d_yhat @ t(z)
""",
            "deep-gradients": """\
def deep_gradients(weights, xi, t):
    z = directions(weights, xi)
    error, gradients = z[-1] - t, []
    d = error / xi.shape[1]
    for k in range(len(weights))[::-1]:
        gradients = [d @ z[k].T, *gradients]
        d = path(weights[k].T @ d, z[k])
    return loss(error), gradients
""",
            "activation-bytes": """\
def activation_bytes(widths, batch_size, itemsize=8, keep_h=False):
    return itemsize * batch_size * (f(widths) + keep_h * f(widths[1:-1]))
""",
            "descend": """\
def descend(gradient, x, lr, steps):
    points = [grid(x)]
    for k in range(steps):
        points.append(step(gradient, points[k], lr))
    return np.stack(points)
""",
        },
        helpers={
            "softmax": """\
def by_hand(s):
    return s - s.max(axis=1, keepdims=True)

def scores(s):
    e = np.exp(s)
    return e / e.sum(axis=1, keepdims=True)

def skewed(s):
    s = by_hand(s)
    return s - np.log(np.exp(s).sum(axis=1, keepdims=True))

def x(y):
    return np.arange(len(y))

def before(p, y):
    return p - np.eye(p.shape[1])[y]

def t(a):
    return np.swapaxes(a, 0, 1)

def grid(x):
    return np.array(x, dtype=float)

def slope(f, x, i, eps):
    e = np.zeros_like(x)
    e[i] = eps
    return (f(x + e) - f(x - e)) / (2 * eps)

def path(d, z):
    return d * (1 - z * z)

def directions(weights, z):
    kept = [z]
    for k, X in enumerate(weights, start=1):
        kept.append(np.tanh(X @ kept[-1]) if k < len(weights) else X @ kept[-1])
    return kept

def loss(error):
    return (error**2).sum() / (2 * error.shape[1])

def f(widths):
    return sum(widths)

def step(gradient, x, lr):
    return x - lr * gradient(x)
""",
        },
    ),
    Variant(
        "more such names, for the numbers that a student looks at between the exercises",
        cells={
            "softmax": "def softmax(s):\n    return temperature(s, X)\n",
            "risk-gradient": """\
def risk_gradient(p, H, y):
    return (p - d_X[p.shape[1]][y]).T @ H * (one / len(p))
""",
            "backward": """\
def backward(X2, xi, z, d_yhat):
    return (X2.T @ d_yhat * (one - z**rng)) @ xi.T, d_yhat @ z.T
""",
            "descend": """\
def descend(gradient, x, lr, steps):
    path = [x * V]
    path += [path[-1] for _ in range(p)]
    while len(path) <= steps:
        path.append(path[-1] - lr * gradient(path[-1]))
    return np.stack(path[: steps + 1])
""",
        },
        helpers={
            "softmax": """\
X, V, one, rng, p, H, y, k = 1.0, 1.0, 1, 2, 0, "features", "labels", 10
upper, lower, weights, gradients, before = 1, 2, 3, 4, 5
d_X = {n: np.eye(n) for n in range(1, 20)}

def temperature(s, T):
    e = np.exp((s - s.max(axis=1, keepdims=True)) / s.dtype.type(T))
    return e / e.sum(axis=1, keepdims=True)
""",
        },
    ),
    Variant(
        "own variables that are called sum, max, list, str and so on",
        cells={
            "softmax": """\
def softmax(s):
    z = s - s.max(axis=1)[:, None]
    sum = np.exp(z).sum(axis=1)
    return np.exp(z) / sum[:, None]
""",
            "cross-entropy": """\
def cross_entropy(s, y):
    max = s.max(axis=1)
    list = [m + np.log(np.exp(row - m).sum()) - row[i] for row, m, i in zip(s, max, y)]
    return np.mean(list)
""",
            "risk-gradient": """\
def risk_gradient(p, H, y):
    str = np.zeros(p.shape)
    str[np.arange(y.size), y] = 1
    return (p - str).T @ H / y.size
""",
            "numerical-gradient": """\
def numerical_gradient(f, x, eps=1e-5):
    list = []
    for i in np.ndindex(x.shape):
        e = np.zeros(x.shape)
        e[i] = eps
        list += [(f(x + e) - f(x - e)) / (2 * eps)]
    return np.array(list).reshape(x.shape)
""",
            "backward": """\
def backward(X2, xi, z, d_yhat):
    type = np.ones(z.shape)
    return ((type - z * z) * (X2.T @ d_yhat)) @ xi.T, d_yhat @ z.T
""",
            "deep-gradients": """\
def deep_gradients(weights, xi, t):
    list, dict = [xi], []
    *hidden, last = weights
    for X in hidden:
        list.append(np.tanh(X @ list[-1]))
    len = xi.shape[1]
    delta = (last @ list[-1] - t) / len
    f = len / 2 * (delta * delta).sum()
    for X in [*hidden, last][::-1]:
        dict = [delta @ list[-1].T, *dict]
        delta = X.T @ delta * (1 - list.pop() ** 2)
    return f, dict
""",
            "activation-bytes": """\
def activation_bytes(widths, batch_size, itemsize=8, keep_h=False):
    sum = 0
    for m in widths:
        sum += m
    for m in widths[1:-1]:
        sum += m * keep_h
    return sum * batch_size * itemsize
""",
            "descend": """\
def descend(gradient, x, lr, steps):
    input = np.repeat(x[None] + 0.0, steps + 1, axis=0)
    for id in np.arange(steps):
        input[id + 1] = input[id] - lr * gradient(input[id])
    return input
""",
        },
        helpers={"softmax": OWN_NAMES},
    ),
    Variant(
        "from numpy import *, from math import *",
        cells={
            "softmax": """\
from math import *

from numpy import *


def softmax(s):
    e = exp(s - amax(s, 1, keepdims=True))
    return e / sum(e, 1, keepdims=True)
""",
            "cross-entropy": """\
def cross_entropy(s, y):
    m = amax(s, axis=1)
    return mean(m + log(sum(exp(s - m[:, newaxis]), axis=1)) - take_along_axis(s, y[:, newaxis], 1)[:, 0])
""",
            "risk-gradient": """\
def risk_gradient(p, H, y):
    return transpose(p - identity(p.shape[1])[y]).dot(H) / y.shape[0]
""",
            "backward": """\
def backward(X2, xi, z, d_yhat):
    d_h = multiply(matmul(X2.T, d_yhat), 1 - square(z))
    return [matmul(d_h, xi.T), matmul(d_yhat, z.T)]
""",
            "activation-bytes": """\
def activation_bytes(widths, batch_size, itemsize=8, keep_h=False):
    return itemsize * batch_size * (sum(widths) + where(keep_h, sum(widths[1:-1]), 0))
""",
            "descend": """\
def descend(gradient, x, lr, steps):
    path = array([x] * (steps + 1), dtype=float64)
    for k in arange(1, steps + 1):
        path[k] = path[k - 1] - lr * gradient(path[k - 1])
    return path
""",
        },
    ),
    Variant(
        "lambdas and conditional expressions",
        cells={
            "softmax": """\
norm = lambda e: e / e.sum(-1, keepdims=True)
softmax = lambda s: norm(np.exp(s - s.max(-1, keepdims=True)))
""",
            "cross-entropy": """\
cross_entropy = lambda s, y: np.mean(np.logaddexp.reduce(s, axis=1) - s[np.arange(len(s)), y])
""",
            "risk-gradient": """\
risk_gradient = lambda p, H, y: (p - (np.arange(p.shape[1]) == y[:, None])).T @ H / len(H)
""",
            "numerical-gradient": """\
numerical_gradient = lambda f, x, eps=1e-5: np.array(
    [(f(x + eps * e) - f(x - eps * e)) / (2 * eps) for e in np.eye(x.size).reshape(-1, *x.shape)]
).reshape(x.shape)
""",
            "backward": """\
backward = lambda X2, xi, z, d_yhat: ((X2.T @ d_yhat * (1 - z * z)) @ xi.T, d_yhat @ z.T)
""",
            "activation-bytes": """\
activation_bytes = lambda widths, batch_size, itemsize=8, keep_h=False: (
    itemsize * batch_size * (2 * sum(widths) - widths[0] - widths[-1] if keep_h else sum(widths))
)
""",
            "descend": """\
points = lambda g, x, lr, n: [x] if n == 0 else [x, *points(g, x - lr * g(x), lr, n - 1)]
descend = lambda gradient, x, lr, steps: np.stack(points(gradient, x, lr, steps))
""",
        },
    ),
    Variant(
        "objects that can be called",
        cells={
            "softmax": """\
class Softmax:
    \"\"\"Probabilities of each row.\"\"\"

    def __init__(self, axis):
        self.axis = axis

    def __call__(self, s):
        e = np.exp(s - s.max(self.axis, keepdims=True))
        return e / e.sum(self.axis, keepdims=True)


softmax = Softmax(axis=1)
""",
            "cross-entropy": """\
class CrossEntropy(Softmax):
    def __call__(self, s, y):
        z = s - s.max(self.axis, keepdims=True)
        return (np.log(np.exp(z).sum(self.axis)) - z[np.arange(len(y)), y]).mean()


cross_entropy = CrossEntropy(1)
""",
            "numerical-gradient": """\
class Checker:
    def __init__(self, eps=1e-5):
        self.eps = eps

    @staticmethod
    def moved(x, i, by):
        x = x.astype(float)
        x[i] += by
        return x

    def __call__(self, f, x, eps=None):
        eps, gradient = eps or self.eps, np.zeros(np.shape(x))
        for i in np.ndindex(x.shape):
            gradient[i] = (f(self.moved(x, i, eps)) - f(self.moved(x, i, -eps))) / (2 * eps)
        return gradient


numerical_gradient = Checker()
""",
            "deep-gradients": """\
class Layer:
    def __init__(self, X, last):
        self.X, self.last = X, last

    def forward(self, z):
        self.z = z
        h = self.X @ z
        self.out = h if self.last else np.tanh(h)
        return self.out

    def backward(self, d_out):
        d_h = d_out if self.last else d_out * (1 - self.out**2)
        self.gradient = d_h @ self.z.T
        return self.X.T @ d_h


class Network:
    def __call__(self, weights, xi, t):
        layers = [Layer(X, k == len(weights) - 1) for k, X in enumerate(weights)]
        z = xi
        for layer in layers:
            z = layer.forward(z)
        d = (z - t) / xi.shape[1]
        for layer in reversed(layers):
            d = layer.backward(d)
        return ((z - t) ** 2).sum() / 2 / xi.shape[1], [layer.gradient for layer in layers]


deep_gradients = Network()
""",
            "descend": """\
class Descent:
    def __init__(self, gradient, x, lr):
        self.gradient, self.x, self.lr = gradient, x, lr

    def __iter__(self):
        return self

    def __next__(self):
        now, self.x = self.x, self.x - self.lr * self.gradient(self.x)
        return now


def descend(gradient, x, lr, steps):
    return np.stack([point for point, _ in zip(Descent(gradient, x, lr), range(steps + 1))])
""",
        },
    ),
    Variant(
        "recursion",
        cells={
            "softmax": """\
def softmax(s):
    if len(s) > 1:
        half = len(s) // 2
        return np.concatenate([softmax(s[:half]), softmax(s[half:])])
    e = np.exp(s - s.max())
    return e / e.sum()
""",
            "cross-entropy": """\
def cross_entropy(s, y):
    def log_sum(row):
        return row[0] if len(row) == 1 else np.logaddexp(row[0], log_sum(row[1:]))

    return sum(log_sum(row) - row[right] for row, right in zip(s, y)) / len(y)
""",
            "deep-gradients": """\
def deep_gradients(weights, xi, t):
    def down(z, weights):
        X, *rest = weights
        if not rest:
            error = X @ z - t
            d = error / error.shape[1]
            return (error**2).sum() / (2 * error.shape[1]), [d @ z.T], X.T @ d
        out = np.tanh(X @ z)
        f, gradients, d_out = down(out, rest)
        d = d_out * (1 - out**2)
        return f, [d @ z.T] + gradients, X.T @ d

    return down(xi, weights)[:2]
""",
            "activation-bytes": """\
def activation_bytes(widths, batch_size, itemsize=8, keep_h=False):
    if keep_h:
        return activation_bytes(widths, batch_size, itemsize) + activation_bytes([*widths[1:-1]], batch_size, itemsize)
    if not widths:
        return 0
    first, *others = widths
    return first * batch_size * itemsize + activation_bytes(others, batch_size, itemsize)
""",
            "descend": """\
def descend(gradient, x, lr, steps):
    if steps == 0:
        return x[None].astype(float)
    path = descend(gradient, x, lr, steps - 1)
    return np.concatenate((path, path[-1:] - lr * gradient(path[-1])))
""",
        },
    ),
    Variant(
        "functools and itertools",
        cells={
            "softmax": """\
from functools import partial, reduce
from itertools import accumulate, chain, repeat


def weighted(s, axis):
    e = np.exp(np.subtract(s, np.max(s, axis=axis, keepdims=True)))
    return np.divide(e, np.sum(e, axis=axis, keepdims=True))


softmax = partial(weighted, axis=1)
""",
            "cross-entropy": """\
def cross_entropy(s, y):
    return reduce(lambda total, row: total + np.logaddexp.reduce(row[0]) - row[0][row[1]], zip(s, y), 0.0) / len(y)
""",
            "numerical-gradient": """\
def numerical_gradient(f, x, eps=1e-5):
    def entry(i):
        e = np.zeros(x.shape)
        e[i] = eps
        return (f(x + e) - f(x - e)) / (2 * eps)

    return np.fromiter(map(entry, np.ndindex(x.shape)), dtype=float, count=x.size).reshape(x.shape)
""",
            "deep-gradients": """\
def deep_gradients(weights, xi, t):
    zs = list(accumulate(chain([xi], weights[:-1]), lambda z, X: np.tanh(X @ z)))
    error = weights[-1] @ zs[-1] - t
    down = lambda d, pair: (pair[0].T @ d) * (1 - pair[1] ** 2)
    deltas = accumulate(chain([error / xi.shape[1]], zip(weights[:0:-1], zs[:0:-1])), down)
    return np.sum(error**2) / (2 * xi.shape[1]), [d @ z.T for d, z in zip(deltas, zs[::-1])][::-1]
""",
            "activation-bytes": """\
def activation_bytes(widths, batch_size, itemsize=8, keep_h=False):
    kept = chain(widths, widths[1:-1] if keep_h else ())
    return reduce(lambda total, m: total + m * batch_size * itemsize, kept, 0)
""",
            "descend": """\
def descend(gradient, x, lr, steps):
    return np.stack(list(accumulate(repeat(x, steps + 1), lambda now, _: now - lr * gradient(now))))
""",
        },
    ),
    Variant(
        "tuples, generators and arrays where lists and numbers are usual",
        cells={
            "cross-entropy": """\
def cross_entropy(s, y):
    m = s.max(axis=1, keepdims=True)
    return np.array(np.average(m[:, 0] + np.log(np.exp(s - m).sum(axis=1)) - s[np.arange(len(y)), y]))
""",
            "backward": """\
def backward(X2, xi, z, d_yhat):
    def both():
        yield np.einsum("cm,cb,mb,db->md", X2, d_yhat, 1 - z**2, xi)
        yield np.einsum("cb,mb->cm", d_yhat, z)

    return tuple(both())
""",
            "deep-gradients": """\
def deep_gradients(weights, xi, t):
    B, z = xi.shape[-1], {0: xi}
    for k, X in enumerate(weights[:-1]):
        z[k + 1] = np.tanh(X @ z[k])
    d = (weights[-1] @ z[len(weights) - 1] - t) / B
    f, gradients = np.float64(B * (d**2).sum() / 2), ()
    for k in sorted(z, reverse=True):
        gradients = (d @ z[k].T, *gradients)
        d = weights[k].T @ d * (1 - z[k] ** 2)
    return [f, gradients]
""",
            "activation-bytes": """\
def activation_bytes(widths, batch_size, itemsize=8, keep_h=False):
    return np.float64(itemsize) * batch_size * sum(m for part in (widths, widths[1:-1] * keep_h) for m in part)
""",
            "descend": """\
def trajectory(gradient, x, lr):
    while True:
        yield x
        x = x - lr * gradient(x)


def descend(gradient, x, lr, steps):
    return np.array([x for _, x in zip(range(steps + 1), trajectory(gradient, x, lr))])
""",
        },
    ),
    Variant(
        "type hints, early returns, checks of the arguments",
        cells={
            "softmax": '''\
from collections.abc import Callable

from numpy.typing import NDArray


def softmax(s: NDArray[np.floating]) -> NDArray[np.floating]:
    """Probabilities."""
    assert s.ndim == 2, "one row per example"
    if s.shape[1] == 1:
        return np.ones_like(s)
    shifted: NDArray[np.floating] = s - np.max(s, axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / np.sum(exponentials, axis=1, keepdims=True)
''',
            "risk-gradient": """\
def risk_gradient(p: np.ndarray, H: np.ndarray, y: np.ndarray) -> np.ndarray:
    N, C = p.shape
    if not N == len(H) == len(y):
        raise ValueError(f"{N} rows of probabilities, {len(H)} of features, {len(y)} labels")
    one_hot: np.ndarray = np.zeros((N, C), dtype=np.int8)
    one_hot[np.arange(N), y] = 1
    return np.dot((p - one_hot).T, H) / N
""",
            "numerical-gradient": """\
def numerical_gradient(f: "Callable[[np.ndarray], float]", x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    if x.ndim > 1:
        return numerical_gradient(lambda flat: f(flat.reshape(x.shape)), x.ravel(), eps=eps).reshape(x.shape)
    steps = eps * np.eye(len(x))
    return np.array([(f(x + e) - f(x - e)) / (2 * eps) for e in steps])
""",
            "activation-bytes": """\
def activation_bytes(widths: list[int], batch_size: int, itemsize: int = 8, keep_h: bool = False) -> int:
    inputs, *hidden, classes = widths
    if not hidden:
        return itemsize * batch_size * (inputs + classes)
    return itemsize * batch_size * (inputs + (1 + keep_h) * sum(hidden) + classes)
""",
            "descend": """\
def descend(gradient: "Callable", x: np.ndarray, lr: float, steps: int) -> np.ndarray:
    if not steps:
        return np.expand_dims(x, 0).copy()
    x = np.asarray(x, float)
    path: list[np.ndarray] = [x]
    for _step in range(steps):
        x = x - lr * np.asarray(gradient(x))
        path.append(x)
    return np.stack(path, axis=0)
""",
        },
    ),
    Variant(
        "decorators and caches",
        cells={
            "softmax": """\
import functools
import time

SECONDS = {}


def timed(function):
    @functools.wraps(function)
    def measured(*args, **kwargs):
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            SECONDS[function.__name__] = SECONDS.get(function.__name__, 0) + time.perf_counter() - start

    return measured


@timed
def softmax(s):
    e = np.exp(s - s.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
""",
            "cross-entropy": """\
@np.vectorize(signature="(c),()->()")
def price(s, y):
    m = s.max()
    return m + np.log(np.exp(s - m).sum()) - s[y]


@timed
def cross_entropy(s, y):
    return price(s, y).mean()
""",
            "backward": """\
@timed
def backward(X2, xi, z, d_yhat):
    squash = np.vectorize(lambda z: 1 - z * z)
    return (X2.T @ d_yhat * squash(z)) @ xi.T, d_yhat @ z.T
""",
            "activation-bytes": """\
@functools.lru_cache(maxsize=None)
def per_example(widths, keep_h):
    return sum(widths) + (sum(widths[1:-1]) if keep_h else 0)


@timed
def activation_bytes(widths, batch_size, itemsize=8, keep_h=False):
    return per_example(tuple(widths), keep_h) * batch_size * itemsize
""",
            "descend": """\
SEEN = {}


@timed
def descend(gradient, x, lr, steps):
    key = (gradient, x.tobytes(), x.shape, lr)
    path = SEEN.setdefault(key, [np.array(x, dtype=float)])
    while len(path) <= steps:
        path.append(path[-1] - lr * gradient(path[-1]))
    return np.array(path[: steps + 1])
""",
        },
    ),
    Variant(
        "np.matrix inside, float32, Python's own numbers",
        cells={
            "softmax": """\
def softmax(s):
    rows = s.tolist()
    tops = [max(row) for row in rows]
    e = [[np.exp(score - top) for score in row] for row, top in zip(rows, tops)]
    return np.array([[value / sum(row) for value in row] for row in e], dtype=s.dtype)
""",
            "cross-entropy": """\
import math


def cross_entropy(s, y):
    prices = []
    for row, right in zip(s.tolist(), y.tolist()):
        top = max(row)
        prices.append(top - row[right] + math.log(math.fsum(math.exp(score - top) for score in row)))
    return math.fsum(prices) / len(prices)
""",
            "risk-gradient": """\
def risk_gradient(p, H, y):
    d = np.matrix(p, copy=True)
    for i, right in enumerate(y):
        d[i, right] = d[i, right] - 1
    return np.asarray(d.T * np.asmatrix(H)) / len(y)
""",
            "backward": """\
def backward(X2, xi, z, d_yhat):
    X2, xi, d_yhat, z = map(np.asmatrix, (X2, xi, d_yhat, z))
    return (np.multiply(X2.T * d_yhat, 1 - np.power(z, 2)) * xi.T).A, (d_yhat * z.T).A
""",
            "activation-bytes": """\
def activation_bytes(widths, batch_size, itemsize=8, keep_h=False):
    kept = np.array(widths, dtype=np.float32)
    if keep_h is True:
        kept[1:-1] *= 2
    return np.int64(kept.sum()) * batch_size * itemsize
""",
        },
    ),
    Variant(
        "einsum, broadcasting and np.add.at",
        cells={
            "softmax": """\
def softmax(s):
    d = s[:, None, :] - s[:, :, None]
    with np.errstate(over="ignore"):
        return (1 / np.exp(d).sum(axis=2)).astype(s.dtype)
""",
            "cross-entropy": """\
def cross_entropy(s, y):
    return np.logaddexp.reduce(s - np.take_along_axis(s, y[:, np.newaxis], axis=1), axis=1).mean()
""",
            "risk-gradient": """\
def risk_gradient(p, H, y):
    gradient = np.einsum("nc,nd->cd", p, H)
    np.add.at(gradient, y, -H)
    return gradient / len(y)
""",
            "backward": """\
def backward(X2, xi, z, d_yhat):
    d_X1 = np.tensordot((1 - z) * (1 + z) * np.tensordot(X2, d_yhat, axes=(0, 0)), xi, axes=(1, 1))
    return d_X1, np.einsum("cb, mb -> cm", d_yhat, z)
""",
            "numerical-gradient": """\
def numerical_gradient(f, x, eps=1e-5):
    x = np.array(x, dtype=np.float64)
    gradient = np.zeros_like(x)
    it = np.nditer(x, flags=["multi_index"], op_flags=["readwrite"])
    while not it.finished:
        i = it.multi_index
        old = float(x[i])
        x[i] = old + eps
        plus = f(x)
        x[i] = old - eps
        minus = f(x)
        x[i] = old
        gradient[i] = 0.5 * (plus - minus) / eps
        it.iternext()
    return gradient
""",
        },
    ),
    Variant(
        "prints, plots, scratch cells and tests of one's own",
        cells={
            "softmax": """\
import warnings

warnings.simplefilter("error")
rng = np.random.default_rng(0)


def softmax(s):
    print("softmax of", s.shape)
    z = s - s.max(axis=1, keepdims=True)
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


softmax(rng.normal(size=(2, 3))).round(3)
""",
            "numerical-gradient": """\
def numerical_gradient(f, x, eps=1e-5):
    g = np.zeros(x.shape, float)
    for i in np.ndindex(x.shape):
        ahead, behind = np.array(x, float), np.array(x, float)
        ahead[i] += eps
        behind[i] -= eps
        g[i] = (f(ahead) - f(behind)) / (ahead[i] - behind[i])
    return g


x = rng.normal(size=5)
assert np.allclose(numerical_gradient(lambda x: (x**3).sum(), x), 3 * x**2)
_, ax = plt.subplots()
ax.plot(x, numerical_gradient(lambda x: np.cos(x).sum(), x), "o")
plt.show()
""",
            "descend": """\
def descend(gradient, x, lr, steps):
    path = [np.array(x, dtype=float)]
    for k in range(steps):
        path += [path[k] - lr * gradient(path[k])]
        if k % 50 == 0:
            print(f"step {k}")
    return np.vstack([point[None] for point in path])


path = descend(lambda x: x, x, 0.1, 10)
gradient = numerical_gradient
""",
        },
        helpers={
            "cross-entropy": "s = rng.normal(size=(3, 4))\ny = np.array([0, 1, 2])\np = softmax(s)\np",
            "backward": "%matplotlib inline\nX, z = rng.normal(size=(2, 2)), 0\nprint(X)",
        },
    ),
]
