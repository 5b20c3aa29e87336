"""Correct solutions of lab 10 in other styles: each keeps every point."""

from grading_cases import Variant

VARIANTS = [
    Variant(
        "loops over pairs and steps",
        cells={
            "metropolis": """
def metropolis(adjacency):
    n = len(adjacency)
    W = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(n):
            if i != j and adjacency[i][j]:
                W[i][j] = 1 / (1 + max(sum(adjacency[i]), sum(adjacency[j])))
    for i in range(n):
        W[i][i] = 1 - sum(W[i])
    return np.array(W)
""",
            "dsgd": """
def dsgd(W, gradients, x0, lr, steps):
    n, d = x0.shape
    out = np.empty((steps + 1, n, d))
    out[0] = x0
    for k in range(steps):
        half = out[k] - lr * gradients(out[k])
        for i in range(n):
            out[k + 1, i] = sum(W[i, j] * half[j] for j in range(n))
    return out
""",
            "trimmed-mean": """
def trimmed_mean(vectors, f):
    result = []
    for column in vectors.T:
        kept = sorted(column)[f : len(column) - f]
        result.append(sum(kept) / len(kept))
    return np.array(result)
""",
            "delayed": """
def delayed_descent(curvature, x0, lr, delay, steps):
    x = [x0] * (delay + 1)
    while len(x) < delay + 1 + steps:
        x.append(x[-1] - lr * curvature * x[-1 - delay])
    return np.array(x[delay:], dtype=float)
""",
        },
    ),
    Variant(
        "torch inside",
        cells={
            "spectral-gap": """
import torch


def spectral_gap(W):
    W = torch.as_tensor(W, dtype=torch.float64)
    return 1 - torch.linalg.matrix_norm(W - torch.ones_like(W) / len(W), ord=2).item()
""",
            "dsgd": """
def dsgd(W, gradients, x0, lr, steps):
    W, x = torch.as_tensor(W, dtype=torch.float64), torch.tensor(x0, dtype=torch.float64)
    models = [x]
    for _ in range(steps):
        x = W @ (x - lr * torch.as_tensor(gradients(x.numpy())))
        models.append(x)
    return torch.stack(models).numpy()
""",
            "alie": """
def alie(honest, z):
    honest = torch.as_tensor(honest, dtype=torch.float64)
    return (honest.mean(0) - z * honest.std(0, unbiased=False)).numpy()
""",
            "centered-clipping": """
def centered_clipping(vectors, start, radius, rounds):
    x, v = torch.tensor(vectors, dtype=torch.float64), torch.tensor(start, dtype=torch.float64)
    for _ in range(rounds):
        offsets = x - v
        v = v + (offsets * (radius / offsets.norm(dim=1, keepdim=True)).clamp(max=1)).mean(0)
    return v.numpy()
""",
        },
    ),
    Variant(
        "float32 throughout",
        cells={
            "metropolis": """
def metropolis(adjacency):
    adjacency = adjacency.astype(np.float32)
    degrees = adjacency.sum(1)
    W = adjacency / (1 + np.maximum.outer(degrees, degrees))
    np.fill_diagonal(W, 1 - W.sum(1))
    return W.astype(np.float32)
""",
            "spectral-gap": """
def spectral_gap(W):
    return 1 - np.linalg.svd(np.float32(W) - np.float32(1 / len(W)), compute_uv=False)[0]
""",
            "dsgd": """
def dsgd(W, gradients, x0, lr, steps):
    x, W = np.float32(x0), np.float32(W)
    models = [x]
    for _ in range(steps):
        x = np.float32(W @ (x - np.float32(lr) * gradients(x).astype(np.float32)))
        models.append(x)
    return np.stack(models)
""",
            "dsgd-end": """
def dsgd_end(W, a, b, lr):
    W, a, b = (np.asarray(part, dtype=np.float32) for part in (W, a, b))
    A = np.diag(a)
    eye = np.eye(len(a), dtype=np.float32)
    return np.linalg.solve(eye - W @ (eye - np.float32(lr) * A), np.float32(lr) * (W @ A @ b))
""",
            "gradient-tracking": """
def gradient_tracking(W, gradients, x0, lr, steps):
    W, x = W.astype("f4"), x0.astype("f4")
    g = gradients(x).astype("f4")
    y, xs, ys = g, [x], [g]
    for _ in range(steps):
        x = W @ (x - np.float32(lr) * y)
        g, old = gradients(x).astype("f4"), g
        y = W @ y + g - old
        xs.append(x)
        ys.append(y)
    return np.stack(xs), np.stack(ys)
""",
            "alie": """
def alie(honest, z):
    honest = honest.astype(np.float32)
    return honest.mean(0) - np.float32(z) * honest.std(0)
""",
            "trimmed-mean": """
def trimmed_mean(vectors, f):
    return np.sort(vectors.astype(np.float32), 0)[f : len(vectors) - f].mean(0)
""",
            "centered-clipping": """
def centered_clipping(vectors, start, radius, rounds):
    vectors, v = vectors.astype(np.float32), start.astype(np.float32)
    for _ in range(rounds):
        d = vectors - v
        length = np.sqrt((d * d).sum(1, keepdims=True))
        v = v + np.mean(np.where(length > radius, d * np.float32(radius) / np.where(length > 0, length, 1), d), axis=0)
    return v
""",
        },
    ),
    Variant(
        "in place, in arrays made beforehand",
        cells={
            "dsgd": """
def dsgd(W, gradients, x0, lr, steps):
    out = np.zeros((steps + 1,) + x0.shape)
    x = x0.astype(float).copy()
    out[0] = x
    for k in range(1, steps + 1):
        x -= lr * gradients(x)
        x[:] = W @ x
        out[k] = x
    return out
""",
            "gradient-tracking": """
def gradient_tracking(W, gradients, x0, lr, steps):
    xs = np.zeros((steps + 1, *x0.shape))
    ys = np.zeros_like(xs)
    xs[0], ys[0] = x0, gradients(x0)
    old = ys[0].copy()
    for k in range(steps):
        xs[k + 1] = W @ (xs[k] - lr * ys[k])
        new = gradients(xs[k + 1])
        ys[k + 1] = W @ ys[k]
        ys[k + 1] += new
        ys[k + 1] -= old
        old = new
    return xs, ys
""",
            "delayed": """
def delayed_descent(curvature, x0, lr, delay, steps):
    x = np.full(steps + 1, float(x0))
    for k in range(steps):
        late = k - delay if k > delay else 0
        x[k + 1] = x[k]
        x[k + 1] -= lr * curvature * x[late]
    return x
""",
            "centered-clipping": """
def centered_clipping(vectors, start, radius, rounds):
    v = np.zeros(len(start))
    v += start
    for _ in range(rounds):
        step = np.zeros_like(v)
        for x in vectors:
            far = np.linalg.norm(x - v)
            step += (x - v) * (1 if far <= radius else radius / far)
        v += step / len(vectors)
    return v
""",
        },
    ),
    Variant(
        "einsum and matrices",
        cells={
            "dsgd": """
def dsgd(W, gradients, x0, lr, steps):
    x, models = x0 * 1.0, [x0 * 1.0]
    for _ in range(steps):
        x = np.einsum("ij,jd->id", W, x - lr * gradients(x))
        models += [x]
    return np.asarray(models)
""",
            "dsgd-end": """
def dsgd_end(W, a, b, lr):
    M = W @ (np.eye(len(a)) - lr * np.diag(a))
    return np.linalg.inv(np.eye(len(a)) - M) @ (lr * np.einsum("ij,j,j->i", W, a, b))
""",
            "metropolis": """
def metropolis(adjacency):
    d = np.einsum("ij->i", adjacency)
    off = np.where(adjacency > 0, 1.0 / (np.maximum.outer(d, d) + 1), 0.0)
    return off + np.eye(len(d)) * (1 - off.sum(0))
""",
            "spectral-gap": """
def spectral_gap(W):
    n = len(W)
    M = W - np.ones((n, n)) / n
    return 1 - np.sqrt(max(np.linalg.eigvalsh(M.T @ M).max(), 0))
""",
        },
    ),
    Variant(
        "own helper cells",
        helpers={
            "dsgd": """
def neighbours_average(W, x):
    return W.dot(x)
""",
            "centered-clipping": """
def clipped(x, radius):
    size = np.linalg.norm(x)
    return x if size <= radius else x * (radius / size)
""",
        },
        cells={
            "dsgd": """
def dsgd(W, gradients, x0, lr, steps):
    path = [np.asarray(x0, float)]
    for _ in range(steps):
        path.append(neighbours_average(W, path[-1] - lr * gradients(path[-1])))
    return np.stack(path)
""",
            "gradient-tracking": """
def gradient_tracking(W, gradients, x0, lr, steps):
    path, grads = [np.asarray(x0, float)], [gradients(np.asarray(x0, float))]
    track = [grads[0]]
    for _ in range(steps):
        path.append(neighbours_average(W, path[-1] - lr * track[-1]))
        grads.append(gradients(path[-1]))
        track.append(neighbours_average(W, track[-1]) + (grads[-1] - grads[-2]))
    return np.stack(path), np.stack(track)
""",
            "centered-clipping": """
def centered_clipping(vectors, start, radius, rounds):
    v = np.asarray(start, float)
    for _ in range(rounds):
        v = v + np.mean([clipped(x - v, radius) for x in vectors], axis=0)
    return v
""",
        },
    ),
    Variant(
        "a class that remembers",
        helpers={
            "gradient-tracking": '''
class Tracker:
    """Models, gradients and estimates of all nodes."""

    def __init__(self, W, gradients, x):
        self.W, self.gradients, self.x = W, gradients, x
        self.g = self.y = gradients(x)

    def step(self, lr):
        self.x = self.W @ (self.x - lr * self.y)
        before, self.g = self.g, self.gradients(self.x)
        self.y = self.W @ self.y + self.g - before
        return self
''',
        },
        cells={
            "gradient-tracking": """
def gradient_tracking(W, gradients, x0, lr, steps):
    tracker = Tracker(W, gradients, np.array(x0, dtype=float))
    history = [(tracker.x, tracker.y)]
    history += [(tracker.step(lr).x, tracker.y) for _ in range(steps)]
    return np.array([x for x, _ in history]), np.array([y for _, y in history])
""",
            "delayed": """
class Late:
    def __init__(self, x0, delay):
        self.past = [float(x0)] * (delay + 1)

    def step(self, rate):
        self.past = self.past[1:] + [self.past[-1] - rate * self.past[0]]
        return self.past[-1]


def delayed_descent(curvature, x0, lr, delay, steps):
    late = Late(x0, delay)
    return np.array([float(x0)] + [late.step(lr * curvature) for _ in range(steps)])
""",
        },
    ),
    Variant(
        "scipy",
        cells={
            "alie-z": """
from scipy.stats import norm


def alie_z(n, f):
    s = math.floor(n / 2 + 1) - f
    return max(norm.ppf((n - f - s) / (n - f)), 0)
""",
            "trimmed-mean": """
from scipy import stats


def trimmed_mean(vectors, f):
    return stats.trim_mean(vectors, (f + 0.01) / len(vectors), axis=0)
""",
            "spectral-gap": """
import scipy.linalg


def spectral_gap(W):
    return 1 - scipy.linalg.svdvals(W - 1 / W.shape[0]).max()
""",
            "dsgd-end": """
def dsgd_end(W, a, b, lr):
    return scipy.linalg.solve(np.eye(len(a)) - W @ np.diag(1 - lr * a), W @ (lr * a * b))
""",
        },
    ),
    Variant(
        "one-liners and lambdas",
        cells={
            "spectral-gap": "spectral_gap = lambda W: 1 - np.linalg.norm(W - W.mean(), ord=2)",
            "ring-gap": "ring_gap = lambda n: 2 / 3 * (1 - np.cos(2 * np.pi / n))",
            "delayed-lr": "largest_delayed_lr = lambda L, delay: 2 / L * np.sin(np.pi / (4 * delay + 2))",
            "alie": "alie = lambda honest, z: np.mean(honest, 0) - z * np.sqrt(np.var(honest, 0))",
            "trimmed-mean": "trimmed_mean = lambda v, f: np.sort(v, 0)[f : (-f or None)].mean(0)",
        },
    ),
    Variant(
        "recursion and early returns, with prints",
        cells={
            "dsgd": """
def dsgd(W, gradients, x0, lr, steps):
    if steps == 0:
        return np.array([x0], dtype=float)
    path = dsgd(W, gradients, x0, lr, steps - 1)
    print("step", steps)
    return np.concatenate([path, [W @ (path[-1] - lr * gradients(path[-1]))]])
""",
            "delayed": """
def delayed_descent(curvature, x0, lr, delay, steps):
    def model(k):
        if k <= 0:
            return float(x0)
        if k not in known:
            known[k] = model(k - 1) - lr * curvature * model(k - 1 - delay)
        return known[k]

    known = {}
    return np.array([model(k) for k in range(steps + 1)])
""",
            "centered-clipping": """
def centered_clipping(vectors, start, radius, rounds):
    if rounds == 0:
        return np.array(start, dtype=float)
    distance = np.linalg.norm(vectors - start, axis=1)[:, None]
    factor = np.minimum(1, radius / np.where(distance == 0, 1e-300, distance))
    return centered_clipping(vectors, start + ((vectors - start) * factor).mean(0), radius, rounds - 1)
""",
            "alie-z": """
def alie_z(n, f):
    from statistics import NormalDist

    m = n - f
    r = int(n / 2 + 1) - f
    if 2 * r >= m:
        return 0.0
    print("supporters:", r)
    return -NormalDist().inv_cdf(r / m)
""",
        },
    ),
    Variant(
        "a ring by its spectrum, the end by iterating until it rests",
        cells={
            "ring-gap": """
def ring_gap(n):
    slowest = abs(1 + np.exp(2j * np.pi / n) + np.exp(-2j * np.pi / n)) / 3
    return 1 - slowest
""",
            "dsgd-end": """
def dsgd_end(W, a, b, lr):
    x = np.zeros(len(a))
    while True:
        new = W @ (x - lr * a * (x - b))
        if np.allclose(new, x, rtol=0, atol=1e-13):
            return new
        x = new
""",
            "delayed-lr": """
def largest_delayed_lr(L, delay):
    theta = math.pi / (2 * delay + 1)
    return abs(complex(math.cos(theta), math.sin(theta)) - 1) / L
""",
        },
    ),
    Variant(
        "type hints, keyword arguments and other names",
        cells={
            "metropolis": """
def metropolis(adjacency: np.ndarray) -> np.ndarray:
    graph = np.array(adjacency, dtype=float)
    neighbours: np.ndarray = graph.sum(axis=0)
    for i, row in enumerate(graph):
        for j in np.flatnonzero(row):
            graph[i, j] = 1.0 / (1.0 + max(neighbours[i], neighbours[j]))
    graph[np.diag_indices(len(graph))] = 1.0 - graph.sum(axis=1)
    return graph
""",
            "dsgd": """
def dsgd(W: np.ndarray, gradients, x0: np.ndarray, lr: float, steps: int) -> np.ndarray:
    trajectory: list[np.ndarray] = [np.copy(x0).astype(float)]
    for _step in range(steps):
        position = trajectory[-1]
        trajectory.append(np.matmul(W, np.subtract(position, np.multiply(lr, gradients(position)))))
    return np.stack(arrays=trajectory, axis=0)
""",
            "alie-z": """
def alie_z(n: int, f: int) -> float:
    import statistics

    share: float = 1 - (n // 2 + 1 - f) / (n - f)
    return statistics.NormalDist(mu=0, sigma=1).inv_cdf(share) if share > 0.5 else 0.0
""",
            "trimmed-mean": """
def trimmed_mean(vectors: np.ndarray, f: int) -> np.ndarray:
    n: int = vectors.shape[0]
    inner = np.partition(vectors, (f, n - f - 1), axis=0)[f : n - f]
    return np.mean(inner, axis=0)
""",
        },
    ),
    Variant(
        "the mean of the sorted by cumulative sums, the gap by powers, the bias by least squares",
        cells={
            "trimmed-mean": """
def trimmed_mean(vectors, f):
    n, d = vectors.shape
    sums = np.vstack([np.zeros(d), np.cumsum(np.sort(vectors, axis=0), axis=0)])
    return (sums[n - f] - sums[f]) / (n - 2 * f)
""",
            "spectral-gap": """
def spectral_gap(W):
    J = np.full(W.shape, 1 / len(W))
    top = np.linalg.eigvalsh((W - J) @ (W - J).T)[-1]
    return float(1 - abs(top) ** 0.5)
""",
            "dsgd-end": """
def dsgd_end(W, a, b, lr):
    n = len(a)
    A = np.diag(a)
    return np.linalg.lstsq(np.eye(n) - W + lr * W @ A, lr * W @ A @ b, rcond=None)[0]
""",
        },
    ),
    Variant(
        "names that test cells use, and built-ins",
        helpers={
            "metropolis": """
W = 5
x = 'mine'
str = 'text'
sum = np.sum
start = [1]
len_ = len
path = turn = cloud = crowd = line = 3
step = 0.1
rounds = 3
n = 7
a = b = lr = None
id = 3
list = [1]
graph = one = two = V = honest = curve = target = cases = L = z = None
""",
            "spectral-gap": """
type = round = print_ = 3
f = lambda x: x
i = j = k = 0
math_ = math
hidden = expect_ = 4
y = W = J = np.eye(3)
""",
        },
        cells={
            "dsgd": """
def dsgd(W, gradients, x0, lr, steps):
    models = [x0]
    while len(models) <= steps:
        x = models[-1]
        models.append(W @ x - lr * W @ gradients(x))
    return np.array(models, dtype=float)
""",
        },
    ),
    Variant(
        "cosine, deque, accumulate",
        cells={
            "delayed-lr": """
def largest_delayed_lr(L, delay):
    return 2 * math.cos(math.pi * delay / (2 * delay + 1)) / L
""",
            "delayed": """
from collections import deque


def delayed_descent(curvature, x0, lr, delay, steps):
    past = deque([x0] * (delay + 1), maxlen=delay + 1)
    out = [x0]
    for _ in range(steps):
        past.append(past[-1] - lr * curvature * past[0])
        out.append(past[-1])
    return np.array(out, dtype=float)
""",
            "dsgd": """
from itertools import accumulate


def dsgd(W, gradients, x0, lr, steps):
    return np.array(list(accumulate(range(steps), lambda x, _: W @ (x - lr * gradients(x)), initial=x0)), dtype=float)
""",
            "spectral-gap": """
def spectral_gap(W):
    return 1 - np.linalg.svd(W, compute_uv=False)[1]
""",
        },
    ),
    Variant(
        "scipy sparse and fsolve",
        cells={
            "dsgd": """
import scipy.sparse


def dsgd(W, gradients, x0, lr, steps):
    W = scipy.sparse.csr_matrix(W)
    X = [x0 + 0.0]
    for _ in range(steps):
        X.append(W @ (X[-1] - lr * gradients(X[-1])))
    return np.array(X)
""",
            "dsgd-end": """
from scipy.optimize import fsolve


def dsgd_end(W, a, b, lr):
    return fsolve(lambda x: W @ (x - lr * a * (x - b)) - x, b, xtol=1e-12)
""",
            "trimmed-mean": """
from scipy.stats import trim_mean


def trimmed_mean(vectors, f):
    return trim_mean(vectors, f / len(vectors))
""",
            "metropolis": """
import scipy.sparse


def metropolis(adjacency):
    A = scipy.sparse.coo_matrix(adjacency)
    d = np.asarray(A.sum(axis=1)).ravel()
    W = scipy.sparse.coo_matrix((1 / (1 + np.maximum(d[A.row], d[A.col])), (A.row, A.col)), shape=A.shape).toarray()
    W[np.arange(len(d)), np.arange(len(d))] = 1 - W.sum(1)
    return W
""",
        },
    ),
    Variant(
        "plain lists and zip, arrays at the end",
        cells={
            "metropolis": """
def metropolis(adjacency):
    A = adjacency.tolist()
    d = [sum(r) for r in A]
    n = len(A)
    W = [[A[i][j] / (1 + max(d[i], d[j])) for j in range(n)] for i in range(n)]
    for i in range(n):
        W[i][i] = 1 - sum(W[i])
    return np.array(W)
""",
            "alie": """
def alie(honest, z):
    m = len(honest)
    out = []
    for column in zip(*honest):
        mean = sum(column) / m
        out.append(mean - z * math.sqrt(sum((c - mean) ** 2 for c in column) / m))
    return np.array(out)
""",
            "centered-clipping": """
def centered_clipping(vectors, start, radius, rounds):
    v = list(start)
    for _ in range(rounds):
        move = [0.0] * len(v)
        for x in vectors:
            offset = [p - q for p, q in zip(x, v)]
            length = math.hypot(*offset)
            c = min(1, radius / length) if length else 0
            move = [m + c * o / len(vectors) for m, o in zip(move, offset)]
        v = [p + m for p, m in zip(v, move)]
    return np.array(v)
""",
            "gradient-tracking": """
def gradient_tracking(W, gradients, x0, lr, steps):
    x, g = [x0], [gradients(x0)]
    y = [g[0]]
    for k in range(steps):
        x.append(W @ (x[k] - lr * y[k]))
        g.append(gradients(x[k + 1]))
        y.append(W @ y[k] + g[k + 1] - g[k])
    return np.array(x), np.array(y)
""",
        },
    ),
    Variant(
        "torch tensors inside, also float32",
        cells={
            "gradient-tracking": """
import torch


def gradient_tracking(W, gradients, x0, lr, steps):
    W = torch.tensor(W, dtype=torch.float32)
    grad = lambda x: torch.tensor(gradients(x.double().numpy()), dtype=torch.float32)
    x = torch.tensor(x0, dtype=torch.float32)
    g = grad(x)
    xs, ys = [x], [g]
    for _ in range(steps):
        xs.append(W @ (xs[-1] - lr * ys[-1]))
        new = grad(xs[-1])
        ys.append(W @ ys[-1] + (new - g))
        g = new
    return torch.stack(xs).numpy(), torch.stack(ys).numpy()
""",
            "metropolis": """
import torch


def metropolis(adjacency):
    A = torch.as_tensor(adjacency).float()
    d = A.sum(1)
    W = A / (1 + torch.maximum(d[:, None], d[None]))
    return (W + torch.diag(1 - W.sum(1))).numpy()
""",
            "trimmed-mean": """
import torch


def trimmed_mean(vectors, f):
    s = torch.as_tensor(vectors).sort(dim=0).values
    return s[f : s.shape[0] - f].mean(0).numpy()
""",
            "dsgd-end": """
import torch


def dsgd_end(W, a, b, lr):
    W, a, b = map(torch.as_tensor, (W, a, b))
    return torch.linalg.solve(torch.eye(len(a), dtype=W.dtype) - W @ torch.diag(1 - lr * a), lr * (W @ (a * b))).numpy()
""",
            "alie-z": """
def alie_z(n, f):
    m = n - f
    q = torch.tensor((m - (n // 2 + 1 - f)) / m, dtype=torch.float64)
    return torch.special.ndtri(q).clamp(min=0).item()
""",
            "delayed": """
def delayed_descent(curvature, x0, lr, delay, steps):
    x = torch.full((steps + 1 + delay,), x0, dtype=torch.float32)
    for k in range(delay, steps + delay):
        x[k + 1] = x[k] - lr * curvature * x[k - delay]
    return x[delay:].numpy()
""",
        },
    ),
    Variant(
        "powers of matrices, erfinv, ranks in place of sorting",
        cells={
            "dsgd-end": """
def dsgd_end(W, a, b, lr):
    n = len(a)
    M = np.zeros((n + 1, n + 1))
    M[:n, :n] = W * (1 - lr * a)
    M[:n, n] = lr * W @ (a * b)
    M[n, n] = 1
    return np.linalg.matrix_power(M, 2**14)[:n, n]
""",
            "alie-z": """
def alie_z(n, f):
    from scipy.special import erfinv

    m = n - f
    return max(0, math.sqrt(2) * erfinv(2 * (m - (n + 2) // 2 + f) / m - 1))
""",
            "ring-gap": """
def ring_gap(n):
    eigenvalues = abs(1 + 2 * np.cos(2 * np.pi * np.arange(1, n) / n)) / 3
    return 1 - eigenvalues.max()
""",
            "delayed": """
def delayed_descent(curvature, x0, lr, delay, steps):
    M = np.eye(delay + 1, k=-1)
    M[0, 0] = 1
    M[0, delay] -= lr * curvature
    s = np.full(delay + 1, float(x0))
    out = [s[0]]
    for _ in range(steps):
        s = M @ s
        out.append(s[0])
    return np.array(out)
""",
            "trimmed-mean": """
def trimmed_mean(vectors, f):
    order = vectors.argsort(axis=0).argsort(axis=0)
    keep = (order >= f) & (order < len(vectors) - f)
    return (vectors * keep).sum(0) / (len(vectors) - 2 * f)
""",
            "centered-clipping": """
def centered_clipping(vectors, start, radius, rounds):
    v = start
    for _ in range(rounds):
        with np.errstate(divide='ignore', invalid='ignore'):
            o = vectors - v
            c = np.minimum(1, radius / np.sqrt((o**2).sum(1)))
        v = v + c @ o / len(o)
    return v
""",
            "alie": """
def alie(honest, z):
    mean = honest.mean(0, keepdims=True)
    return (mean - z * ((honest - mean) ** 2).mean(0) ** 0.5)[0]
""",
        },
    ),
]
