"""Correct solutions of lab 09 in other styles: each keeps every point."""

from grading_cases import Variant

TORCH = Variant(
    "torch inside, arrays outside",
    helpers={"top-k": "import torch"},
    cells={
        "top-k": """\
def top_k(v, k):
    t = torch.as_tensor(v)
    order = torch.sort(t.abs(), descending=True, stable=True).indices
    positions = order[:k].sort().values
    return t[positions].numpy(), positions.int().numpy()
""",
        "unpack-top-k": """\
def unpack_top_k(values, positions, d):
    values = torch.tensor(values)
    return values.new_zeros(d).scatter(0, torch.tensor(positions).long(), values).numpy()
""",
        "pack": """\
def pack(codes, bits):
    stream = torch.as_tensor(codes).unsqueeze(1).bitwise_right_shift(torch.arange(bits)).bitwise_and(1).flatten()
    stream = torch.nn.functional.pad(stream, (0, -len(stream) % 8)).view(-1, 8)
    return (stream * torch.tensor([1, 2, 4, 8, 16, 32, 64, 128])).sum(1).to(torch.uint8).numpy()
""",
        "qsgd": """\
def qsgd(v, levels, u):
    v, u = torch.as_tensor(v), torch.as_tensor(u)
    norm = torch.linalg.vector_norm(v)
    r = levels * v.abs() / norm.clamp(min=1e-300 if v.dtype == torch.float64 else 1e-30)
    level = r.floor() + (u < r.frac())
    return norm.item(), (levels + v.sign() * level).long().numpy()
""",
        "scaled-sign": """\
def scaled_sign(v):
    t = torch.as_tensor(v)
    return torch.where(t >= 0, 1, -1).mul(t.abs().mean()).numpy()
""",
        "delta-top-k": """\
def delta_top_k(v):
    kept = torch.as_tensor(v).double().square().sort(descending=True).values.cumsum(0)
    return (kept / kept[-1]).numpy()
""",
        "error-feedback": """\
def error_feedback(gradients, x0, rates, compress, n):
    x = torch.tensor(x0, dtype=torch.float64)
    e = torch.zeros(n, len(x), dtype=torch.float64)
    path, memories = [x.clone()], [e.clone()]
    for lr in rates:
        p = lr * torch.as_tensor(gradients(x.numpy().copy())) + e
        sent = torch.stack([torch.as_tensor(compress(row.numpy())) for row in p])
        e = p - sent
        x = x - sent.mean(0)
        path.append(x)
        memories.append(e)
    return torch.stack(path).numpy(), torch.stack(memories).numpy()
""",
        "fixed-point": """\
def fedavg_fixed_point(curvatures, centers, lr, tau):
    A, b = torch.as_tensor(curvatures), torch.as_tensor(centers)
    one = torch.eye(A.shape[-1], dtype=A.dtype)
    P = one - torch.linalg.matrix_power(one - lr * A, tau)
    return torch.linalg.solve(P.sum(0), torch.einsum("nij,nj->i", P, b)).numpy()
""",
    },
)

LOOPS = Variant(
    "loops and lists, arrays at the very end",
    cells={
        "top-k": """\
def top_k(v, k):
    chosen = []
    for _ in range(k):
        best = None
        for i in range(len(v)):
            if i not in chosen and (best is None or abs(v[i]) > abs(v[best])):
                best = i
        chosen.append(best)
    chosen.sort()
    return np.array([v[i] for i in chosen], dtype=v.dtype), np.array(chosen, dtype=np.int32)
""",
        "unpack-top-k": """\
def unpack_top_k(values, positions, d):
    sent = {int(i): value for value, i in zip(values, positions)}
    return np.array([sent.get(i, 0) for i in range(d)], dtype=values.dtype)
""",
        "bits-per-entry": """\
def bits_per_entry(levels):
    b = 1
    while 2**b < 2 * levels + 1:
        b += 1
    return b
""",
        "pack": """\
def pack(codes, bits):
    out = [0] * -(-len(codes) * bits // 8)
    for i, code in enumerate(codes):
        for j in range(bits):
            t = i * bits + j
            if int(code) >> j & 1:
                out[t // 8] += 2 ** (t % 8)
    return np.array(out, dtype=np.uint8)
""",
        "qsgd": """\
def qsgd(v, levels, u):
    norm = math.sqrt(sum(float(a) ** 2 for a in v))
    codes = []
    for a, chance in zip(v, u):
        r = levels * abs(float(a)) / norm if norm > 0 else 0.0
        l = int(r)
        if chance < r - l:
            l += 1
        codes.append(levels + l if a > 0 else levels - l)
    return norm, np.array(codes)
""",
        "qsgd-variance": """\
def qsgd_variance(v, levels):
    norm2 = sum(float(a) ** 2 for a in v)
    if norm2 == 0:
        return 0.0
    total = 0.0
    for a in v:
        r = levels * abs(float(a)) / norm2**0.5
        up, down = math.floor(r) + 1 - r, r - math.floor(r)
        total += up * down
    return total * norm2 / levels / levels
""",
        "local-sgd": """\
def local_sgd(gradients, x0, lr, tau, steps, n):
    d = len(x0)
    now = [[float(a) for a in x0] for _ in range(n)]
    history = [[row[:] for row in now]]
    for k in range(1, steps + 1):
        g = gradients(np.array(now))
        for i in range(n):
            for j in range(d):
                now[i][j] -= lr * g[i][j]
        if k % tau == 0:
            mean = [sum(now[i][j] for i in range(n)) / n for j in range(d)]
            now = [mean[:] for _ in range(n)]
        history.append([row[:] for row in now])
    return np.array(history)
""",
        "scaffold": """\
def scaffold(gradients, x0, lr, tau, rounds, n):
    x, own = [float(a) for a in x0], [[0.0] * len(x0) for _ in range(n)]
    models, guesses = [list(x)], [[list(row) for row in own]]
    for _ in range(rounds):
        c = [sum(column) / n for column in zip(*own)]
        y = [list(x) for _ in range(n)]
        for _ in range(tau):
            g = gradients(np.array(y))
            y = [[y[i][j] - lr * (g[i, j] - own[i][j] + c[j]) for j in range(len(x))] for i in range(n)]
        own = [[own[i][j] - c[j] + (x[j] - y[i][j]) / (tau * lr) for j in range(len(x))] for i in range(n)]
        x = [sum(column) / n for column in zip(*y)]
        models.append(x)
        guesses.append(own)
    return np.array(models), np.array(guesses)
""",
    },
)

SINGLE = Variant(
    "float32 throughout",
    cells={
        "qsgd": """\
def qsgd(v, levels, u):
    v = v.astype(np.float32)
    norm = np.linalg.norm(v)
    r = np.float32(levels) * np.abs(v) / norm if norm else np.zeros_like(v)
    whole = np.floor(r).astype(int)
    return norm, levels + np.sign(v).astype(int) * (whole + (u.astype(np.float32) < r - whole))
""",
        "scaled-sign": """\
def scaled_sign(v):
    v = np.float32(v)
    return np.mean(np.abs(v)) * np.float32([1 if a >= 0 else -1 for a in v])
""",
        "delta-top-k": """\
def delta_top_k(v):
    squares = np.float32(v) ** 2
    total = squares.sum()
    return np.array([1 - np.sort(squares)[: len(v) - k].sum() / total for k in range(1, len(v) + 1)], dtype=np.float32)
""",
        "error-feedback": """\
def error_feedback(gradients, x0, rates, compress, n):
    x = np.zeros((len(rates) + 1, len(x0)), dtype=np.float32)
    e = np.zeros((len(rates) + 1, n, len(x0)), dtype=np.float32)
    x[0] = x0
    for k, rate in enumerate(rates):
        p = (rate * gradients(x[k]) + e[k]).astype(np.float32)
        sent = np.float32([compress(row) for row in p])
        x[k + 1], e[k + 1] = x[k] - sent.mean(0), p - sent
    return x, e
""",
        "local-sgd": """\
def local_sgd(gradients, x0, lr, tau, steps, n):
    x = np.empty((steps + 1, n, len(x0)), np.float32)
    x[0] = x0
    for k in range(steps):
        x[k + 1] = x[k] - lr * gradients(x[k])
        if not (k + 1) % tau:
            x[k + 1] = x[k + 1].mean(0)
    return x
""",
        "fixed-point": """\
def fedavg_fixed_point(curvatures, centers, lr, tau):
    A, b = np.float32(curvatures), np.float32(centers)
    P = np.eye(A.shape[1], dtype=np.float32) - np.linalg.matrix_power(np.eye(A.shape[1], dtype=np.float32) - lr * A, tau)
    return np.linalg.solve(P.mean(0), (P @ b[..., None]).mean(0))[:, 0].astype(np.float32)
""",
        "scaffold": """\
def scaffold(gradients, x0, lr, tau, rounds, n):
    x = np.float32(x0)
    c_i = np.zeros((n, x.size), np.float32)
    out = [(x, c_i)]
    for _ in range(rounds):
        c, y = c_i.mean(0), np.repeat(x[None], n, 0)
        for _ in range(tau):
            y = np.float32(y - lr * (gradients(y) - c_i + c))
        c_i, x = np.float32(c_i - c + (x - y) / (tau * lr)), y.mean(0)
        out.append((x, c_i))
    return tuple(np.array(part) for part in zip(*out))
""",
    },
)

IN_PLACE = Variant(
    "in place, with copies where they are needed",
    cells={
        "unpack-top-k": """\
def unpack_top_k(values, positions, d):
    dense = np.zeros_like(values, shape=d)
    np.put(dense, positions, values)
    return dense
""",
        "pack": """\
def pack(codes, bits):
    stream = np.zeros((len(codes) * bits + 7) // 8 * 8, dtype=np.uint8)
    for j in range(bits):
        stream[j : len(codes) * bits : bits] = codes // 2**j % 2
    packed = np.zeros(len(stream) // 8, dtype=np.uint8)
    for t in range(8):
        packed |= stream[t::8] << t
    return packed
""",
        "error-feedback": """\
def error_feedback(gradients, x0, rates, compress, n):
    x = np.array(x0, dtype=float)
    e = np.zeros((n, x.size))
    xs, es = [x.copy()], [e.copy()]
    for rate in rates:
        e += rate * gradients(x.copy())
        for i in range(n):
            q = np.array(compress(e[i].copy()))
            e[i] -= q
            x -= q / n
        xs.append(x.copy())
        es.append(e.copy())
    return np.stack(xs), np.stack(es)
""",
        "local-sgd": """\
def local_sgd(gradients, x0, lr, tau, steps, n):
    x = np.zeros((n, len(x0)))
    x += x0
    out = np.zeros((steps + 1, *x.shape))
    out[0] = x
    for k in range(1, steps + 1):
        x -= lr * gradients(x)
        if k % tau == 0:
            x[:] = x.mean(axis=0)
        out[k] = x
    return out
""",
        "scaffold": """\
def scaffold(gradients, x0, lr, tau, rounds, n):
    x, c_i = np.array(x0, dtype=float), np.zeros((n, len(x0)))
    xs, cs = np.zeros((rounds + 1, len(x0))), np.zeros((rounds + 1, n, len(x0)))
    xs[0] = x
    y = np.empty_like(c_i)
    for r in range(1, rounds + 1):
        c = c_i.mean(axis=0)
        y[:] = x
        for _ in range(tau):
            y -= lr * (gradients(y.copy()) - c_i + c)
        c_i -= c
        c_i += (x - y) / (tau * lr)
        x[:] = y.mean(axis=0)
        xs[r], cs[r] = x, c_i
    return xs, cs
""",
    },
)

CLASSES = Variant(
    "classes in helper cells",
    helpers={
        "qsgd": """\
class Rounding:
    def __init__(self, v, levels):
        self.norm = float(np.sqrt(np.dot(v, v)))
        self.r = levels * np.abs(v) / (self.norm or 1.0)
        self.low = self.r.astype(int)
        self.up = self.r - self.low
""",
        "error-feedback": """\
class Node:
    def __init__(self, d, compress):
        self.e, self.compress = np.zeros(d), compress

    def send(self, step):
        p = step + self.e
        q = self.compress(p)
        self.e = p - q
        return q
""",
        "scaffold": """\
class Client:
    def __init__(self, d):
        self.c = np.zeros(d)

    def learn(self, start, end, common, time):
        self.c = self.c - common + (start - end) / time
""",
    },
    cells={
        "qsgd": """\
def qsgd(v, levels, u):
    rounding = Rounding(v, levels)
    level = np.where(u < rounding.up, rounding.low + 1, rounding.low)
    return rounding.norm, np.where(v < 0, levels - level, levels + level)
""",
        "qsgd-variance": """\
def qsgd_variance(v, levels):
    norm = float(np.linalg.norm(v))
    r = levels * np.abs(v) / (norm or 1)
    mean_square = (r % 1) * np.ceil(r) ** 2 + (1 - r % 1) * np.floor(r) ** 2
    return float(np.sum(mean_square - r**2)) * norm**2 / levels**2
""",
        "error-feedback": """\
def error_feedback(gradients, x0, rates, compress, n):
    nodes = [Node(len(x0), compress) for _ in range(n)]
    x = np.asarray(x0, dtype=float)
    history = [(x, [node.e for node in nodes])]
    for rate in rates:
        g = gradients(x)
        x = x - sum(node.send(rate * g[i]) for i, node in enumerate(nodes)) / n
        history.append((x, [node.e for node in nodes]))
    xs, es = zip(*history)
    return np.array(xs), np.array(es)
""",
        "scaffold": """\
def scaffold(gradients, x0, lr, tau, rounds, n):
    clients, x = [Client(len(x0)) for _ in range(n)], np.array(x0, float)
    xs, cs = [x], [[client.c for client in clients]]
    for _ in range(rounds):
        own = np.array([client.c for client in clients])
        common, y = own.mean(0), np.array([x] * n)
        for _ in range(tau):
            y = y - lr * (gradients(y) + (common - own))
        for client, end in zip(clients, y):
            client.learn(x, end, common, tau * lr)
        x = y.mean(0)
        xs.append(x)
        cs.append([client.c for client in clients])
    return np.array(xs), np.array(cs)
""",
    },
)

LAMBDAS = Variant(
    "one expression each, where that is possible",
    cells={
        "unpack-top-k": """\
unpack_top_k = lambda values, positions, d: (
    (np.arange(d)[:, None] == positions) @ values
).astype(values.dtype)
""",
        "bits-per-entry": "bits_per_entry = lambda levels: int(2 * levels).bit_length()",
        "pack": """\
pack = lambda codes, bits: np.packbits(
    np.unpackbits(codes.astype("<u2").view(np.uint8).reshape(-1, 2), axis=1, bitorder="little")[:, :bits].ravel(),
    bitorder="little",
)
""",
        "qsgd-variance": """\
qsgd_variance = lambda v, levels: (
    0.0 if not np.any(v)
    else (lambda unit, p: float(unit**2 * (p - p**2).sum()))(
        np.linalg.norm(v) / levels, np.modf(np.abs(v) * levels / np.linalg.norm(v))[0]
    )
)
""",
        "qsgd-omega": "qsgd_omega = lambda d, levels: min(d / levels / 4, d**0.5) / levels",
        "scaled-sign": "scaled_sign = lambda v: np.copysign(np.abs(v).sum() / v.size, v + 0.0)",
        "delta-top-k": """\
delta_top_k = lambda v: np.add.accumulate(-np.sort(-(v * v))) / np.dot(v, v)
""",
    },
)

EINSUM = Variant(
    "einsum, eigenvectors and SciPy",
    helpers={"top-k": "import scipy.linalg\nimport scipy.sparse\nimport scipy.stats"},
    cells={
        "top-k": """\
def top_k(v, k):
    places = scipy.stats.rankdata(-np.abs(v), method="ordinal") <= k
    return v[places], np.flatnonzero(places).astype("int32")
""",
        "unpack-top-k": """\
def unpack_top_k(values, positions, d):
    column = np.zeros_like(positions)
    return scipy.sparse.coo_array((values, (column, positions)), shape=(1, d)).toarray()[0]
""",
        "local-sgd": """\
def local_sgd(gradients, x0, lr, tau, steps, n):
    mean, stay = np.full((n, n), 1 / n), np.eye(n)
    x = np.broadcast_to(np.asarray(x0, dtype=float), (n, len(x0)))
    out = [x]
    for k in range(steps):
        mixing = stay if (k + 1) % tau else mean
        x = np.einsum("ij,jd->id", mixing, x - lr * gradients(x))
        out.append(x)
    return np.array(out)
""",
        "fixed-point": """\
def fedavg_fixed_point(curvatures, centers, lr, tau):
    values, vectors = np.linalg.eigh(curvatures)
    pull = np.einsum("nik,nk,njk->nij", vectors, 1 - (1 - lr * values) ** tau, vectors)
    return scipy.linalg.solve(pull.sum(0), np.einsum("nij,nj->i", pull, centers), assume_a="pos")
""",
        "scaffold": """\
def scaffold(gradients, x0, lr, tau, rounds, n):
    center = np.eye(n) - 1 / n
    x, c = np.asarray(x0, float), np.zeros((n, len(x0)))
    xs, cs = [x], [c]
    for _ in range(rounds):
        y = np.broadcast_to(x, (n, len(x)))
        for _ in range(tau):
            y = y - lr * gradients(y) + lr * np.einsum("ij,jd->id", center, c)
        c = np.einsum("ij,jd->id", center, c) + (x - y) / tau / lr
        x = np.einsum("id->d", y) / n
        xs.append(x)
        cs.append(c)
    return np.stack(xs), np.stack(cs)
""",
    },
)

RECURSION = Variant(
    "recursion",
    cells={
        "bits-per-entry": """\
def bits_per_entry(levels):
    def bits(largest):
        return 0 if largest == 0 else 1 + bits(largest // 2)

    return bits(2 * levels)
""",
        "pack": """\
def pack(codes, bits):
    def number(numbers):
        if len(numbers) == 1:
            return int(numbers[0])
        half = len(numbers) // 2
        return number(numbers[:half]) + (number(numbers[half:]) << (bits * half))

    size = math.ceil(len(codes) * bits / 8)
    return np.frombuffer(number(codes).to_bytes(size, "little"), dtype=np.uint8)
""",
        "delta-top-k": """\
def delta_top_k(v):
    def kept(squares, sofar):
        return [] if not squares else [sofar + squares[0], *kept(squares[1:], sofar + squares[0])]

    squares = sorted((float(a) ** 2 for a in v), reverse=True)
    return np.array(kept(squares, 0.0)) / sum(squares)
""",
        "error-feedback": """\
def error_feedback(gradients, x0, rates, compress, n):
    def go(x, e, rates):
        if len(rates) == 0:
            return [x], [e]
        p = rates[0] * gradients(x) + e
        q = np.apply_along_axis(compress, 1, p)
        xs, es = go(x - q.mean(0), p - q, rates[1:])
        return [x, *xs], [e, *es]

    xs, es = go(np.array(x0, dtype=float), np.zeros((n, len(x0))), list(rates))
    return np.array(xs), np.array(es)
""",
        "fixed-point": """\
def fedavg_fixed_point(curvatures, centers, lr, tau):
    def pulled(A, steps):
        if steps == 0:
            return np.zeros_like(A)
        before = pulled(A, steps - 1)
        return before + lr * A @ (np.eye(len(A)) - before)

    P = [pulled(A, tau) for A in curvatures]
    return np.linalg.solve(sum(P), sum(p @ b for p, b in zip(P, centers)))
""",
    },
)

TYPED = Variant(
    "type hints, prints and early returns",
    cells={
        "top-k": """\
def top_k(v: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    magnitude = np.abs(v)
    if k == len(v):
        return v.copy(), np.arange(k, dtype=np.int32)
    threshold: float = np.partition(magnitude, -k)[-k]
    above = magnitude > threshold
    missing = k - int(above.sum())
    print("above the threshold:", k - missing)
    equal = np.flatnonzero(magnitude == threshold)[:missing]
    above[equal] = True
    return v[above], np.where(above)[0].astype(np.int32)
""",
        "qsgd": """\
def qsgd(v: np.ndarray, levels: int, u: np.ndarray) -> tuple[float, np.ndarray]:
    length: float = float((v.astype(float) ** 2).sum() ** 0.5)
    if not length:
        return 0.0, np.ones(v.shape, dtype=int) * levels
    scaled = levels * v.astype(float) / length
    size = np.ceil(np.abs(scaled) - u)
    print("rounded up:", int((size > np.abs(scaled)).sum()))
    return length, (levels + np.copysign(size, scaled)).astype(np.int64)
""",
        "qsgd-omega": """\
def qsgd_omega(d: int, levels: int) -> float:
    quarter, root = d / (2 * levels) ** 2, d**0.5 / levels
    if quarter < root:
        return quarter
    return root
""",
        "scaled-sign": """\
def scaled_sign(v: np.ndarray) -> np.ndarray:
    bits = v >= 0
    print(f"{bits.sum()} of {bits.size} are plus")
    return (2 * bits - 1) * np.linalg.norm(v, 1) / len(v)
""",
        "local-sgd": """\
def local_sgd(gradients, x0: np.ndarray, lr: float, tau: int, steps: int, n: int) -> np.ndarray:
    x: np.ndarray = np.ones((n, 1)) * x0
    if steps == 0:
        return x[None]
    path = [x]
    for k in range(steps):
        x = x - lr * gradients(x)
        if k % tau == tau - 1:
            print("average after step", k + 1)
            x = np.ones((n, 1)) * x.mean(axis=0, keepdims=True)
        path.append(x)
    return np.stack(path)
""",
    },
)

SIMULATED = Variant(
    "the fixed point by running rounds until nothing moves",
    cells={
        "fixed-point": """\
def fedavg_fixed_point(curvatures, centers, lr, tau):
    x = np.zeros(centers.shape[1])
    for _ in range(100_000):
        y = np.tile(x, (len(centers), 1))
        for _ in range(tau):
            y = y - lr * (curvatures @ (y - centers)[:, :, None])[:, :, 0]
        new = y.mean(axis=0)
        if np.abs(new - x).max() < 1e-12:
            return new
        x = new
    return x
""",
        "qsgd-omega": """\
def qsgd_omega(d, levels):
    bounds = [0.25 * d, levels * np.sqrt(d)]
    return np.min(bounds) / levels**2
""",
        "scaled-sign": """\
def scaled_sign(v):
    signs = np.where(v < 0, -1.0, 1.0)
    return signs * (signs @ v) / (signs @ signs)
""",
    },
)

ROUNDS = Variant(
    "a round is a linear map, whose fixed point is wanted",
    helpers={"bits-per-entry": "from functools import reduce"},
    cells={
        "fixed-point": """\
def fedavg_fixed_point(curvatures, centers, lr, tau):
    n, d = centers.shape
    left = [reduce(np.matmul, [np.eye(d) - lr * A] * tau) for A in curvatures]
    M = sum(left) / n
    q = sum(b - K @ b for K, b in zip(left, centers)) / n
    return np.linalg.inv(np.eye(d) - M) @ q
""",
        "bits-per-entry": """\
def bits_per_entry(levels):
    return len(bin(2 * levels)) - 2
""",
        "pack": """\
def pack(codes, bits):
    text = "".join(format(int(code), f"0{bits}b") for code in codes[::-1])
    text = text.zfill(-(-len(text) // 8) * 8)
    return np.array([int(text[i : i + 8], 2) for i in range(0, len(text), 8)][::-1], dtype=np.uint8)
""",
        "local-sgd": """\
def local_sgd(gradients, x0, lr, tau, steps, n):
    def step(models, k):
        x = models[-1] - lr * gradients(models[-1])
        return [*models, x if k % tau else np.outer(np.ones(n), x.mean(0))]

    return np.array(reduce(step, range(1, steps + 1), [np.outer(np.ones(n), x0)]))
""",
    },
)

GENERATORS = Variant(
    "generators and comprehensions",
    helpers={
        "error-feedback": """\
def feedback_states(gradients, x, rates, compress, e):
    yield x, e
    for rate in rates:
        p = rate * gradients(x) + e
        q = np.stack([compress(p[i]) for i in range(len(p))])
        x, e = x - q.sum(axis=0) / len(q), p - q
        yield x, e
""",
        "local-sgd": """\
def states(gradients, x, lr, tau):
    for k in itertools.count(1):
        yield x
        x = x - lr * gradients(x)
        if k % tau == 0:
            x = np.array([x.mean(axis=0)] * len(x))
""",
    },
    cells={
        "top-k": """\
def top_k(v, k):
    positions = sorted(sorted(range(len(v)), key=lambda i: (-abs(v[i]), i))[:k])
    return v[positions], np.int32(positions)
""",
        "qsgd": """\
def qsgd(v, levels, u):
    norm = math.hypot(*v)
    if norm == 0:
        return 0.0, np.full_like(v, levels, dtype=int)
    parts = [divmod(levels * abs(a) / norm, 1) for a in v.tolist()]
    level = [int(low) + int(chance < rest) for (low, rest), chance in zip(parts, u)]
    return norm, np.array([levels + (l if a >= 0 else -l) for l, a in zip(level, v)])
""",
        "error-feedback": """\
def error_feedback(gradients, x0, rates, compress, n):
    states = feedback_states(gradients, np.array(x0, dtype=float), rates, compress, np.zeros((n, len(x0))))
    x, e = zip(*states)
    return np.array(x), np.array(e)
""",
        "local-sgd": """\
def local_sgd(gradients, x0, lr, tau, steps, n):
    start = np.array([x0] * n, dtype=float)
    return np.array(list(itertools.islice(states(gradients, start, lr, tau), steps + 1)))
""",
        "qsgd-variance": """\
def qsgd_variance(v, levels):
    norm = math.sqrt(math.fsum(float(a) ** 2 for a in v))
    if norm == 0.0:
        return 0.0
    rests = ((levels * abs(float(a)) / norm) % 1 for a in v)
    return math.fsum(p * (1 - p) for p in rests) * (norm / levels) ** 2
""",
    },
)

GUESSES = Variant(
    "control variates kept as differences c_i - c, gradients summed on the way",
    cells={
        "scaffold": """\
def scaffold(gradients, x0, lr, tau, rounds, n):
    x, c = np.array(x0, dtype=float), np.zeros((n, len(x0)))
    history = {"x": [x], "c": [c]}
    for _ in range(rounds):
        other = c - c.mean(axis=0)
        y, met = np.vstack([x] * n), np.zeros_like(c)
        for _ in range(tau):
            g = gradients(y)
            met += g / tau
            y = y - lr * (g - other)
        x, c = np.average(y, axis=0), met
        history["x"].append(x)
        history["c"].append(c)
    return np.array(history["x"]), np.array(history["c"])
""",
        "delta-top-k": """\
def delta_top_k(v):
    order = np.argsort(np.abs(v))
    left = np.concatenate([[0.0], np.cumsum(np.square(v)[order])])
    return 1 - left[len(v) - 1 :: -1] / left[-1]
""",
        "unpack-top-k": """\
def unpack_top_k(values, positions, d):
    return np.bincount(positions, weights=values, minlength=d).astype(values.dtype)
""",
        "qsgd-variance": """\
def qsgd_variance(v, levels):
    if np.all(v == 0):
        return 0.0
    unit = np.linalg.norm(v) / levels
    down = np.mod(np.abs(v), unit)
    return float(np.dot(down, unit - down))
""",
    },
)

IMPORTED = Variant(
    "helpers named norm and error, codes of one or two bytes, sums in float32",
    helpers={
        "qsgd": "from numpy.linalg import norm",
        "scaled-sign": """\
def error(c, v):
    return ((c * np.where(v >= 0, 1, -1) - v) ** 2).sum()
""",
    },
    cells={
        "qsgd": """\
def qsgd(v, levels, u):
    length = norm(v)
    r = levels * np.abs(v) / (length or 1.0)
    whole = np.floor(r)
    level = whole + (u < r - whole)
    codes = np.where(v < 0, levels - level, levels + level)
    return length, codes.astype(np.uint8 if levels < 128 else np.uint16)
""",
        "qsgd-variance": """\
def qsgd_variance(v, levels):
    v = np.float32(v)
    unit = norm(v) / np.float32(levels)
    if unit == 0:
        return 0.0
    p = np.abs(v) / unit % 1
    return unit**2 * (p * (1 - p)).sum()
""",
        "scaled-sign": """\
def scaled_sign(v):
    left, middle, right = error(-1.0, v), error(0.0, v), error(1.0, v)
    c = (left - right) / 2 / (left + right - 2 * middle)
    return c * np.where(v >= 0, 1, -1)
""",
        "delta-top-k": """\
def delta_top_k(v):
    squares = np.sort(np.float32(v) ** 2)[::-1]
    return np.cumsum(squares) / squares.sum()
""",
    },
)

VARIANTS = [
    TORCH,
    LOOPS,
    SINGLE,
    IN_PLACE,
    CLASSES,
    LAMBDAS,
    EINSUM,
    RECURSION,
    TYPED,
    SIMULATED,
    ROUNDS,
    GENERATORS,
    GUESSES,
    IMPORTED,
    Variant(
        "helpers with the names that tests like, names of Python's own among them",
        cells={
            "top-k": """\
sum = max = 0


def top_k(v, k):
    where = message(v)[:k]
    where.sort()
    return v[where], np.array(where, dtype="int32")


def message(v):
    return sorted(range(len(v)), key=lambda i: (-abs(float(v[i])), i))
""",
            "bits-per-entry": """\
def bits_per_entry(levels):
    return (2 * levels).bit_length()
""",
            "qsgd": """\
def qsgd(v, levels, u):
    length, codes = read(v), []
    for x, luck in zip(v, u):
        share = levels * abs(float(x)) / length if length else 0.0
        whole = int(share)
        whole += bool(luck < share - whole)
        codes.append(levels + whole if x > 0 else levels - whole)
    return length, np.array(codes)


read = lambda v: math.sqrt(math.fsum(float(x) ** 2 for x in v))
""",
            "scaled-sign": """\
def scaled_sign(v):
    signs = np.sign(v) + (v == 0)
    return signs * plain(v)


def plain(v):
    return np.linalg.norm(v, 1) / len(v)
""",
            "error-feedback": """\
def error_feedback(gradients, x0, rates, compress, n):
    x, e = [np.array(x0, dtype=float)], [np.zeros((n, len(x0)))]
    for rate in rates:
        told, towards = [], rate * np.asarray(gradients(x[-1])) + e[-1]
        for used in towards:
            told.append(np.array(compress(used.copy())))
        x.append(x[-1] - np.mean(told, axis=0))
        e.append(towards - told)
    return np.stack(x), np.stack(e)
""",
            "scaffold": """\
calls = []


def scaffold(gradients, x0, lr, tau, rounds, n):
    x, c = np.array(x0, dtype=float), np.zeros((n, len(x0)))
    all_x, all_c = [x], [c]
    for round in range(rounds):
        push = np.repeat(x[None], n, axis=0)
        for step in range(tau):
            calls.append(push)
            push = push - lr * (gradients(push) - c + c.mean(0))
        c = c - c.mean(0) + (x - push) / (tau * lr)
        x = push.mean(0)
        all_x.append(x)
        all_c.append(c)
    return np.array(all_x), np.array(all_c)
""",
        },
    ),
]
