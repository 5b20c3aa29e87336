"""Correct solutions of lab 08 in other styles: each keeps every point."""

from grading_cases import Variant

LOOPS = {
    "mean-gradient": """\
def mean_gradient(gradients, sizes):
    total, count = 0.0, 0
    for gradient, size in zip(gradients, sizes):
        if size == 0:
            continue
        total = total + size * gradient
        count += size
    return total / count
""",
    "scale-from-batches": """\
def scale_from_batches(small, large, b, B):
    s = l = 0.0
    for one, other in zip(small, large):
        s += one
        l += other
    s, l = s / len(small), l / len(large)
    square = (B * l - b * s) / (B - b)
    trace = b * (s - square)
    if square <= 0:
        return {"trace": trace, "square": square, "noise_scale": float("inf")}
    return {"trace": trace, "square": square, "noise_scale": trace / square}
""",
    "scale-from-samples": """\
def scale_from_samples(gradients):
    n, d = gradients.shape
    trace = square = 0.0
    for j in range(d):
        column = [float(v) for v in gradients[:, j]]
        mean = sum(column) / n
        variance = sum((v - mean) ** 2 for v in column) / (n - 1)
        trace += variance
        square += mean**2 - variance / n
    result = dict(square=square, trace=trace)
    result["noise_scale"] = trace / square if square > 0 else float("inf")
    return result
""",
    "small-and-large": """\
def small_and_large(gradients, x0, lr):
    k = len(gradients)
    mean = np.zeros_like(x0)
    for g in gradients:
        mean += g(x0) / k
    big = x0 - k * lr * mean
    here = x0.copy()
    for j in range(k):
        here -= lr * gradients[j](here)
    return here, big
""",
    "scaled-rates": """\
def scaled_rates(steps, lr, k, warmup):
    rates = []
    for t in range(steps):
        if t < warmup:
            rates.append(lr + (k * lr - lr) * t / warmup)
        else:
            rates.append(k * lr)
    return np.array(rates)
""",
    "carry-out": """\
def carry_out(plan, vectors, bounds):
    n, d = vectors.shape
    held = [[float(v) for v in row] for row in vectors]
    sent = [0] * n
    for messages in plan:
        letters = []
        for sender, receiver, chunk, adds in messages:
            letters.append((receiver, bounds[chunk], adds, held[sender][bounds[chunk] : bounds[chunk + 1]]))
            sent[sender] += bounds[chunk + 1] - bounds[chunk]
        for receiver, start, adds, letter in letters:
            for j, value in enumerate(letter):
                held[receiver][start + j] = value + (held[receiver][start + j] if adds else 0.0)
    return np.array(held), np.array(sent)
""",
    "ring-plan": """\
def ring_plan(n):
    plan = []
    chunk = list(range(n))  # what node i sends next
    for r in range(n - 1):
        plan.append([(i, (i + 1) % n, chunk[i], True) for i in range(n)])
        chunk = [chunk[i - 1] for i in range(n)]
    for r in range(n - 1):
        plan.append([(i, (i + 1) % n, chunk[i], False) for i in range(n)])
        chunk = [chunk[i - 1] for i in range(n)]
    return plan
""",
    "all-reduce-seconds": """\
def all_reduce_seconds(n, message_bytes, latency, seconds_per_byte):
    def message(size):
        return latency + seconds_per_byte * size

    levels, left = 0, n
    while left > 1:
        left = (left + 1) // 2
        levels += 1
    star = sum(message(message_bytes) for _ in range(2 * n))
    tree = sum(message(message_bytes) for _ in range(2 * levels))
    ring = sum(message(message_bytes / n) for _ in range(2 * (n - 1)))
    return {"ring": ring, "tree": tree, "star": star}
""",
}

TORCH = {
    "mean-gradient": """\
import torch


def mean_gradient(gradients, sizes):
    g, w = torch.as_tensor(gradients, dtype=torch.float64), torch.as_tensor(sizes, dtype=torch.float64)
    return (torch.nan_to_num(g) * w[:, None]).sum(0).div(w.sum()).numpy()
""",
    "scale-from-batches": """\
import torch


def scale_from_batches(small, large, b, B):
    lengths = torch.tensor([np.mean(small), np.mean(large)], dtype=torch.float64)
    system = torch.tensor([[1.0, 1 / b], [1.0, 1 / B]], dtype=torch.float64)
    square, trace = torch.linalg.solve(system, lengths)
    scale = trace / square if square > 0 else torch.tensor(float("inf"))
    return {"trace": trace, "square": square, "noise_scale": scale}
""",
    "scale-from-samples": """\
import torch


def scale_from_samples(gradients):
    g = torch.from_numpy(np.array(gradients)).double()
    trace = g.var(dim=0, correction=1).sum()
    square = g.mean(0).square().sum() - trace / g.shape[0]
    return {
        "trace": trace.item(),
        "square": square.item(),
        "noise_scale": (trace / square).item() if square.item() > 0 else torch.inf,
    }
""",
    "carry-out": """\
import torch


def carry_out(plan, vectors, bounds):
    x = torch.tensor(np.asarray(vectors), dtype=torch.float64)
    sent = torch.zeros(len(x), dtype=torch.int64)
    for messages in plan:
        old = x.clone()
        for s, r, c, adds in messages:
            chunk = slice(bounds[c], bounds[c + 1])
            if adds:
                x[r, chunk] += old[s, chunk]
            else:
                x[r, chunk] = old[s, chunk]
            sent[s] += old[s, chunk].numel()
    return x.numpy(), sent.numpy()
""",
    "scaled-rates": """\
import torch


def scaled_rates(steps, lr, k, warmup):
    t = torch.arange(steps, dtype=torch.float64)
    ramp = (t / max(warmup, 1)).clamp(max=1.0) if warmup else torch.ones_like(t)
    return torch.lerp(torch.full_like(t, lr), torch.full_like(t, lr * k), ramp).numpy()
""",
}

SINGLE = {
    "mean-gradient": """\
def mean_gradient(gradients, sizes):
    weights = np.array(sizes, dtype="float32") / np.float32(np.sum(sizes))
    return np.nansum(weights[:, None] * gradients.astype("float32"), axis=0)
""",
    "scale-from-batches": """\
def scale_from_batches(small, large, b, B):
    gap = np.float32(1 / b - 1 / B)
    s, l = small.astype(np.float32).mean(), large.astype(np.float32).mean()
    trace = (s - l) / gap
    square = l - trace / np.float32(B)
    noise_scale = trace / square if square > 0 else np.float32(np.inf)
    return {"trace": trace, "square": square, "noise_scale": noise_scale}
""",
    "scale-from-samples": """\
def scale_from_samples(gradients):
    g = gradients.astype(np.float32)
    center = g.mean(axis=0, keepdims=True)
    trace = np.sum((g - center) ** 2) / np.float32(len(g) - 1)
    square = np.sum(center**2) - trace / np.float32(len(g))
    return {"trace": trace, "square": square, "noise_scale": np.where(square > 0, trace / square, np.inf)}
""",
    "critical-batch": """\
def critical_batch(batch_sizes, steps):
    B, S = np.array(batch_sizes, dtype="float32"), np.array(steps, dtype="float32")
    E = B * S
    S_min = (E[1] - E[0]) / (B[1] - B[0])
    E_min = (S[0] - S[1]) / (1 / B[0] - 1 / B[1])
    return S_min, E_min / S_min
""",
    "carry-out": """\
def carry_out(plan, vectors, bounds):
    now = np.array(vectors, dtype=np.float32)
    counts = np.zeros(now.shape[0], dtype=int)
    for messages in plan:
        last = np.copy(now)
        for sender, receiver, chunk, adds in messages:
            index = np.arange(bounds[chunk], bounds[chunk + 1])
            now[receiver, index] = last[sender, index] + adds * last[receiver, index]
            counts[sender] += len(index)
    return now, counts
""",
}

EINSUM = {
    "mean-gradient": """\
def mean_gradient(gradients, sizes):
    return np.einsum("i,ij->j", np.asarray(sizes) / np.sum(sizes), np.nan_to_num(gradients))
""",
    "scale-from-samples": """\
def scale_from_samples(gradients):
    g = np.asarray(gradients, dtype=np.float64)
    n = g.shape[0]
    gram = np.einsum("ik,jk->ij", g, g)
    own, mixed = np.trace(gram), gram.sum() - np.trace(gram)
    square = mixed / (n * (n - 1))  # the mean over pairs of different samples
    trace = own / n - square
    return {"noise_scale": trace / square if square > 0 else np.inf, "trace": trace, "square": square}
""",
    "small-and-large": """\
def small_and_large(gradients, x0, lr):
    first = np.array([gradient(x0) for gradient in gradients])
    large = x0 - len(gradients) * lr * first.mean(axis=0)
    x = np.array(x0)
    for gradient in gradients:
        x = x - lr * gradient(x)
    return [x, large]
""",
}

RECURSION = {
    "small-and-large": """\
def small_and_large(gradients, x0, lr):
    def walk(x, rest):
        return x if not rest else walk(x - lr * rest[0](x), rest[1:])

    return walk(x0, gradients), x0 - lr * np.sum([g(x0) for g in gradients], axis=0)
""",
    "carry-out": """\
def carry_out(plan, vectors, bounds):
    n = len(vectors)
    if len(plan) == 0:
        return np.array(vectors, dtype=float), np.zeros(n)
    held = np.array(vectors, dtype=float)
    sent = np.zeros(n)
    for a, b, c, adds in plan[0]:
        low, high = bounds[c : c + 2]
        held[b, low:high] = vectors[a, low:high] + (vectors[b, low:high] if adds else 0)
        sent[a] += high - low
    held, later = carry_out(plan[1:], held, bounds)
    return held, sent + later
""",
    "ring-plan": """\
def ring_plan(n):
    def chunk_sent(node, r):
        return node if r == 0 else chunk_sent((node - 1) % n, r - 1)

    rounds = 2 * n - 2
    return [[(i, i + 1 if i + 1 < n else 0, chunk_sent(i, r), r + 1 < n) for i in range(n)] for r in range(rounds)]
""",
    "all-reduce-seconds": """\
import math


def all_reduce_seconds(n, message_bytes, latency, seconds_per_byte):
    def levels(m):
        return 0 if m == 1 else 1 + levels(math.ceil(m / 2))

    t = latency + seconds_per_byte * message_bytes
    return {
        "star": n * t + n * t,
        "tree": 2 * levels(n) * t,
        "ring": 2 * (n - 1) * latency + 2 * (n - 1) / n * seconds_per_byte * message_bytes,
    }
""",
}

LAMBDAS = {
    "largest-stable-lr": """\
largest_stable_lr = lambda curvature, spread, batch_size: (
    2 / curvature / (1 + (spread / curvature) ** 2 / np.asarray(batch_size))
)
""",
    "largest-factor": """\
largest_factor = lambda lr, curvature, spread, batch_size: np.maximum(
    (2 * curvature - lr * spread**2 / batch_size) / (lr * curvature**2), 0
)
""",
    "crossover-bytes": """\
crossover_bytes = lambda n, latency, seconds_per_byte: (
    latency / seconds_per_byte * (n - 1 - (n - 1).bit_length()) / ((n - 1).bit_length() - 1 + 1 / n)
)
""",
    "critical-batch": """\
critical_batch = lambda batch_sizes, steps: (
    lambda least, product: (least, product / least)
)(*np.linalg.solve([[1, 1 / batch_sizes[0]], [1, 1 / batch_sizes[1]]], steps))
""",
    "scaled-rates": """\
scaled_rates = lambda steps, lr, k, warmup: np.array(
    [lr * k if t >= warmup else lr + t * (k - 1) * lr / warmup for t in range(steps)]
)
""",
}

TYPED = {
    "largest-stable-lr": '''\
def largest_stable_lr(curvature: float, spread: float, batch_size: float | np.ndarray) -> float | np.ndarray:
    """The root of lr E h² = 2 E h."""
    second_moment = curvature**2 + spread * spread / batch_size
    print("E h² =", second_moment)
    return 2.0 * curvature / second_moment
''',
    "largest-factor": '''\
def largest_factor(lr: float, curvature: float, spread: float, batch_size: int) -> float:
    """Where k lr λ² + lr s² / B0 = 2 λ."""
    room: float = 2 * curvature - lr * spread**2 / batch_size
    if room <= 0:
        print("no factor is stable")
        return 0
    return room / (lr * curvature**2)
''',
    "all-reduce-seconds": '''\
from math import ceil, log2


def all_reduce_seconds(n: int, message_bytes: float, latency: float, seconds_per_byte: float) -> dict[str, float]:
    """Messages in a row, and vectors in a row."""
    rows: dict[str, tuple[float, float]] = {
        "star": (2 * n, 2 * n),
        "tree": (2 * ceil(log2(n)), 2 * ceil(log2(n))),
        "ring": (2 * (n - 1), 2 * (n - 1) / n),
    }
    return {name: a * latency + b * seconds_per_byte * message_bytes for name, (a, b) in rows.items()}
''',
    "crossover-bytes": '''\
from math import ceil, log2


def crossover_bytes(n: int, latency: float, seconds_per_byte: float) -> float:
    """Two straight lines in m: where they meet."""
    r: int = ceil(log2(n))
    tree, ring = (2 * r, 2 * r), (2 * (n - 1), 2 * (n - 1) / n)
    return (ring[0] - tree[0]) * latency / ((tree[1] - ring[1]) * seconds_per_byte)
''',
    "mean-gradient": '''\
def mean_gradient(gradients: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Of the sums over samples, divided once."""
    rows = [int(size) * row for size, row in zip(sizes, gradients, strict=True) if size]
    print(len(rows), "nodes have samples")
    return np.sum(rows, axis=0) / sum(map(int, sizes))
''',
}

SCIPY = {
    "largest-stable-lr": """\
from scipy.optimize import brentq


def largest_stable_lr(curvature, spread, batch_size):
    def edge(B):
        square = curvature**2 + spread**2 / B
        return brentq(lambda lr: -2 * curvature + lr * square, 0.0, 3 / curvature, xtol=1e-13)

    return edge(batch_size) if np.ndim(batch_size) == 0 else np.array([edge(B) for B in batch_size])
""",
    "crossover-bytes": """\
from scipy.optimize import brentq


def crossover_bytes(n, latency, seconds_per_byte):
    rounds = int(np.ceil(np.log2(n)))

    def difference(m):
        return 2 * (n - 1) * (1 + m / n) - 2 * rounds * (1 + m)  # in units of the latency

    if difference(0) <= 0:
        return 0.0
    return brentq(difference, 0, 10 * n, xtol=1e-13) * latency / seconds_per_byte
""",
    "critical-batch": """\
from scipy.stats import linregress


def critical_batch(batch_sizes, steps):
    line = linregress(1 / np.array(batch_sizes), steps)
    return line.intercept, line.slope / line.intercept
""",
    "scaled-rates": """\
def scaled_rates(steps, lr, k, warmup):
    if warmup == 0:
        return np.full(steps, k * lr)
    return np.interp(range(steps), [0, warmup], [lr, k * lr])
""",
}

CLASSES = {
    "scale-from-batches": """\
def scale_from_batches(small, large, b, B):
    return Estimate(*two_unknowns(b, np.mean(small), B, np.mean(large))).as_dict()
""",
    "scale-from-samples": """\
def scale_from_samples(gradients):
    n = len(gradients)
    one = np.mean([g @ g for g in gradients.astype(float)])
    mean = gradients.astype(float).mean(0)
    return Estimate(*two_unknowns(1, one, n, mean @ mean)).as_dict()
""",
    "carry-out": """\
def carry_out(plan, vectors, bounds):
    machines = [Machine(v, bounds) for v in vectors]
    for messages in plan:
        mail = [(r, c, adds, machines[s].send(c)) for s, r, c, adds in messages]
        for r, c, adds, numbers in mail:
            machines[r].receive(c, adds, numbers)
    return np.stack([m.numbers for m in machines]), np.array([m.sent for m in machines])
""",
}

CLASS_HELPERS = {
    "scale-from-batches": """\
from dataclasses import dataclass


@dataclass
class Estimate:
    square: float
    trace: float

    @property
    def noise_scale(self):
        if self.square > 0:
            return self.trace / self.square
        return np.inf

    def as_dict(self):
        return {name: getattr(self, name) for name in ("square", "trace", "noise_scale")}


def two_unknowns(b, short, B, long):
    trace = (short - long) * b * B / (B - b)
    return short - trace / b, trace
""",
    "carry-out": '''\
class Machine:
    """One node: its numbers, and how many it has sent."""

    def __init__(self, numbers, bounds):
        self.numbers, self.bounds, self.sent = np.array(numbers, dtype=float), bounds, 0

    def send(self, chunk):
        letter = self.numbers[self.bounds[chunk] : self.bounds[chunk + 1]].copy()
        self.sent += letter.size
        return letter

    def receive(self, chunk, adds, letter):
        view = self.numbers[self.bounds[chunk] : self.bounds[chunk + 1]]
        view[:] = view + letter if adds else letter
''',
}

HELPERS = {
    "ring-plan": '''\
def ring_plan(n):
    """Two phases of one and the same movement."""
    return [phase(n, r, True) for r in range(n - 1)] + [phase(n, r, False) for r in range(n - 1)]
''',
    "all-reduce-seconds": """\
def all_reduce_seconds(n, message_bytes, latency, seconds_per_byte):
    one = alpha_beta(latency, seconds_per_byte)
    return dict(
        star=2 * n * one(message_bytes),
        tree=2 * depth(n) * one(message_bytes),
        ring=2 * (n - 1) * one(message_bytes / n),
    )
""",
    "crossover-bytes": """\
def crossover_bytes(n, latency, seconds_per_byte):
    r = depth(n)
    return max(0.0, latency * (n - 1 - r)) / (seconds_per_byte * (r - 1 + 1 / n))
""",
}

HELPER_CELLS = {
    "ring-plan": """\
def phase(n, r, adds):
    first = 0 if adds else 1
    return [(i, (i + 1) % n, (i + first - r) % n, adds) for i in range(n)]
""",
    "all-reduce-seconds": """\
alpha_beta = lambda alpha, beta: lambda size: alpha + beta * size


def depth(n):
    return len(bin(n - 1)) - 2 if n > 1 else 0
""",
}

COMPREHENSIONS = {
    "mean-gradient": """\
def mean_gradient(gradients, sizes):
    d = gradients.shape[1]
    used = [i for i in range(len(sizes)) if sizes[i]]
    return np.array([sum(sizes[i] * gradients[i, j] for i in used) / sum(sizes[i] for i in used) for j in range(d)])
""",
    "carry-out": """\
def carry_out(plan, vectors, bounds):
    held = np.asarray(vectors).astype(float)
    size = np.diff(bounds)
    sent = np.array([sum(size[c] for r in plan for s, _, c, _ in r if s == i) for i in range(len(held))])
    for messages in plan:
        mail = [held[s, bounds[c] : bounds[c + 1]].copy() for s, _, c, _ in messages]
        for (_, r, c, adds), part in zip(messages, mail):
            held[r, bounds[c] : bounds[c + 1]] *= bool(adds)
            held[r, bounds[c] : bounds[c + 1]] += part
    return held, sent
""",
    "ring-plan": """\
def ring_plan(n):
    result = []
    for r in range(2 * (n - 1)):
        messages = []
        for receiver in range(n):
            sender = receiver - 1 if receiver else n - 1
            messages.append((sender, receiver, np.mod(sender - r, n), bool(r < n - 1)))
        result.append(sorted(messages))
    return result
""",
    "scale-from-batches": """\
def scale_from_batches(small, large, b, B):
    traces = [(s - l) * b * B / (B - b) for s, l in zip(small, large)]
    squares = [(B * l - b * s) / (B - b) for s, l in zip(small, large)]
    trace, square = np.mean(traces), np.mean(squares)
    out = {"trace": trace, "square": square, "noise_scale": np.inf}
    if square > 0:
        out["noise_scale"] = trace / square
    return out
""",
}

INTERVALS = {
    "critical-batch": """\
def critical_batch(batch_sizes, steps):
    B1, B2 = batch_sizes
    S1, S2 = steps
    if B1 > B2:
        return critical_batch([B2, B1], [S2, S1])
    critical = B1 * B2 * (S1 - S2) / (B2 * S2 - B1 * S1)
    return np.array([S2 / (1 + critical / B2), critical])
""",
    "small-and-large": """\
from functools import reduce


def small_and_large(gradients, x0, lr):
    small = reduce(lambda x, gradient: x - lr * gradient(x), gradients, x0)
    large = x0 - (k := len(gradients)) * lr * (sum(g(x0) for g in gradients) / k)
    return np.stack([small, large])
""",
    "scaled-rates": """\
def scaled_rates(steps, lr, k, warmup):
    rates = np.full(steps, float(k * lr))
    n = min(steps, warmup)
    rates[:n] = np.linspace(lr, k * lr, warmup + 1)[:n]
    return rates
""",
    "largest-factor": """\
def largest_factor(lr, curvature, spread, batch_size):
    k = (2 / lr - spread**2 / (batch_size * curvature)) / curvature
    return 0 if k < 0 else k
""",
    "largest-stable-lr": """\
def largest_stable_lr(curvature, spread, batch_size):
    return 2 * curvature * batch_size / (batch_size * curvature**2 + spread**2)
""",
}

STEPWISE = {
    "scaled-rates": """\
def scaled_rates(steps, lr, k, warmup):
    rate, rates = (lr, []) if warmup else (k * lr, [])
    for t in range(steps):
        rates += [rate]
        if t + 1 <= warmup:
            rate = rate + (k - 1) * lr / warmup
    return np.array(rates, dtype=float)
""",
    "ring-plan": '''\
def ring_plan(n):
    """Follow each chunk: chunk c leaves node c, and is at node c + r in round r."""
    plan = [[None] * n for _ in range(2 * (n - 1))]
    for c in range(n):
        for r in range(2 * (n - 1)):
            node = (c + r) % n
            plan[r][node] = [node, (node + 1) % n, c, r < n - 1]
    return plan
''',
    "small-and-large": """\
def small_and_large(gradients, x0, lr):
    x = np.zeros((len(gradients) + 1, len(x0)))
    x[0] = x0
    for j, gradient in enumerate(gradients):
        x[j + 1] = x[j] - lr * gradient(x[j])
    step = sum((gradient(x[0].copy()) for gradient in gradients), np.zeros(len(x0)))
    return x[-1], x[0] - lr * step
""",
    "mean-gradient": """\
def mean_gradient(gradients, sizes):
    mean, seen = np.zeros(gradients.shape[1]), 0
    for i in np.flatnonzero(sizes):
        seen += sizes[i]
        mean += (gradients[i] - mean) * sizes[i] / seen
    return mean
""",
}

SHADOWS = {
    "mean-gradient": """\
def mean_gradient(gradients, sizes):
    sum = 0.0
    for mean, len in zip(gradients.astype("float64"), sizes):
        if len:
            sum += len * mean
    return sum / means(sizes)
""",
    "small-and-large": """\
def small_and_large(gradients, x0, lr):
    return small(gradients, x0[:], lr), large(gradients, x0[:], lr)
""",
    "scaled-rates": """\
def scaled_rates(steps, lr, k, warmup):
    list = []
    for t in range(steps):
        min = t / warmup if t < warmup else 1
        list.append((1 - min) * lr + min * k * lr)
    return np.asarray(list)
""",
    "largest-stable-lr": """\
def largest_stable_lr(curvature, spread, batch_size):
    return np.divide(2 * curvature, mean_factor(curvature, spread, batch_size))
""",
    "largest-factor": """\
def largest_factor(lr, curvature, spread, batch_size):
    k = np.roots([lr * curvature**2, lr * spread**2 / batch_size - 2 * curvature])[0]
    return np.clip(k, 0, None)
""",
    "carry-out": """\
def carry_out(plan, vectors, bounds):
    n, d = np.shape(vectors)
    str = np.hstack([vectors, np.zeros((n, 1))]).astype("float64")  # the last column counts
    for round in plan:
        old = str[:, :d].copy()
        for dict in round:
            sender, receiver, chunk, adds = dict
            where = np.r_[bounds[chunk] : bounds[chunk + 1]].astype(int)
            str[receiver, where] = old[sender, where] + adds * old[receiver, where]
            str[sender, d] += where.size
    return str[:, :d], str[:, d]
""",
    "all-reduce-seconds": """\
def all_reduce_seconds(n, message_bytes, latency, seconds_per_byte):
    return {name: f(n, latency, seconds_per_byte * message_bytes) for name, f in costs.items()}
""",
}

SHADOW_HELPERS = {
    "mean-gradient": """\
def means(sizes):
    return float(np.add.reduce(sizes))
""",
    "small-and-large": """\
def small(gradients, x0, lr):
    if not gradients:
        return x0
    return small(gradients[1:], x0 - lr * gradients[0](x0), lr)


def large(gradients, x0, lr):
    return x0 - len(gradients) * lr * np.mean([g(x0) for g in gradients], axis=0)
""",
    "largest-stable-lr": """\
def mean_factor(curvature, spread, batch_size):
    return curvature**2 + spread**2 / np.asarray(batch_size)
""",
    "all-reduce-seconds": """\
costs = {
    "star": lambda n, ts, wire: 2 * n * (ts + wire),
    "tree": lambda n, ts, wire: 2 * (n - 1).bit_length() * (ts + wire),
    "ring": lambda n, ts, wire: 2 * (n - 1) * (ts + wire / n),
}
""",
}

VARIANTS = [
    Variant("loops over everything", LOOPS),
    Variant("torch inside", TORCH),
    Variant("single precision", SINGLE),
    Variant("einsum, and pairs of samples", EINSUM),
    Variant("recursion", RECURSION),
    Variant("lambdas", LAMBDAS),
    Variant("type hints, own docstrings, prints inside", TYPED),
    Variant("scipy's root finder and regression", SCIPY),
    Variant("classes in cells of their own", CLASSES, CLASS_HELPERS),
    Variant("helper functions in cells of their own", HELPERS, HELPER_CELLS),
    Variant("comprehensions and sorted messages", COMPREHENSIONS),
    Variant("other algebra, arrays in place of tuples", INTERVALS),
    Variant("running quantities", STEPWISE),
    Variant("names of Python's own functions and of test cells used for something else", SHADOWS, SHADOW_HELPERS),
    Variant(
        "helpers with the names that tests like, product, id and sum among them",
        cells={
            "mean-gradient": """\
sum, product = 0, lambda a, b: np.asarray(a)[:, None] * b


def mean_gradient(gradients, sizes):
    samples = np.nan_to_num(product(sizes, gradients))
    return samples.sum(axis=0) / np.sum(sizes)
""",
            "scale-from-batches": """\
id = float("inf")


def scale_from_batches(small, large, b, B):
    found = np.linalg.solve([[1 / b, 1], [1 / B, 1]], [np.mean(small), np.mean(large)])
    return by_hand(*found)


def by_hand(trace, square):
    return {"trace": trace, "square": square, "noise_scale": trace / square if square > 0 else id}
""",
            "scale-from-samples": """\
def scale_from_samples(gradients):
    every = np.array(gradients, dtype=np.float64)
    n = len(every)
    products = every @ every.T
    pairs = products.sum() - np.trace(products)
    square = pairs / (n * (n - 1))
    return by_hand(np.trace(products) / n - square, square)
""",
            "critical-batch": """\
def critical_batch(batch_sizes, steps):
    B, S = np.array(batch_sizes, dtype=float), np.array(steps, dtype=float)
    excess, fewest = np.polyfit(1 / B, S, 1)
    return [fewest, excess / fewest]
""",
            "small-and-large": """\
def small_and_large(gradients, x0, lr):
    start, pull = np.array(x0), [gradient(x0) for gradient in gradients]
    for waves in gradients:
        start = start - lr * waves(start)
    return [start, x0 - lr * np.sum(pull, axis=0)]
""",
            "scaled-rates": """\
def scaled_rates(steps, lr, k, warmup):
    if warmup == 0:
        return np.full(steps, k * lr)
    return np.array([lr * (1 + (k - 1) * (t / warmup if t < warmup else 1)) for t in range(steps)])
""",
        },
    ),
]
