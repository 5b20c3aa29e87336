"""Honest solutions of lab 07 in other styles; each must keep every point."""

from grading_cases import Variant

VARIANTS = [
    Variant(
        "preallocated arrays, changed in place",
        {
            "lookahead": """
def lookahead(step, x0, state0, k, alpha, cycles, reset=False):
    path = np.empty((cycles + 1, x0.size))
    path[0] = x0
    state = state0
    for t in range(cycles):
        path[t + 1] = path[t]
        fast = path[t].copy()
        state = state0 if reset else state
        for _ in range(k):
            fast, state = step(fast, state)
        path[t + 1] += alpha * (fast - path[t])
    return path
""",
            "ascent": """
def ascent(gradients, rho, p):
    result = [g.astype(float) for g in gradients]
    top = max(abs(g).max() for g in result)
    for e in result:
        if p == 2 and top > 0:
            e /= top
        else:
            np.sign(e, out=e)
    length = np.linalg.norm(np.concatenate([e.ravel() for e in result])) if p == 2 else 1
    for e in result:
        e *= rho / (length or 1)
    return result
""",
            "reweighted-fit": """
def reweighted_fit(A, y, weight, start, steps):
    theta = np.zeros(A.shape[1])
    theta += start
    for _ in range(steps):
        r = A @ theta
        r -= y
        root = np.sqrt(weight(r))
        theta[:] = np.linalg.lstsq(A * root[:, None], y * root, rcond=None)[0]
    return theta
""",
        },
    ),
    Variant(
        "torch inside, tensors come back",
        {
            "ascent": """
def ascent(gradients, rho, p):
    gs = [torch.from_numpy(g.copy()) for g in gradients]
    if p != 2:
        return [rho * torch.sign(g) for g in gs]
    flat = torch.cat([g.flatten() for g in gs])
    largest = flat.abs().max()
    if largest == 0:
        return gs
    unit = (flat / largest) / torch.linalg.vector_norm(flat / largest)
    return [rho * part.reshape(g.shape) for part, g in zip(unit.split([g.numel() for g in gs]), gs)]
""",
            "tilted-risk": """
def tilted_risk(losses, t):
    l = torch.as_tensor(losses, dtype=torch.float64)
    if t == 0:
        return l.mean()
    m = l.amax() if t > 0 else l.amin()
    if abs(t) == float("inf"):
        return m
    return m + torch.log1p(torch.expm1(t * (l - m)).mean()) / t
""",
            "tilted-weights": """
def tilted_weights(losses, t):
    l = torch.as_tensor(losses, dtype=torch.float64)
    if t == float("inf") or t == -float("inf"):
        tied = l == (l.max() if t > 0 else l.min())
        return tied.double() / tied.sum()
    return torch.softmax(t * l, 0)
""",
            "reweighted-fit": """
def reweighted_fit(A, y, weight, start, steps):
    theta = torch.tensor(start, dtype=torch.float64)
    X, target = torch.tensor(A), torch.tensor(y)
    for _ in range(steps):
        v = torch.as_tensor(weight((X @ theta - target).numpy()))
        theta = torch.linalg.solve(X.T @ (v[:, None] * X), X.T @ (v * target))
    return theta
""",
        },
        {"ascent": "import torch\n\ntorch.set_default_dtype(torch.float64)"},
    ),
    Variant(
        "loops and Python's own numbers",
        {
            "outer-step": """
def outer_step(mean, variance, curvature, noise_variance, lr, k, alpha):
    P, power, noise = 1 - lr * curvature, 1.0, 0.0
    for _ in range(k):
        noise += power * power
        power *= P
    factor = (1 - alpha) + alpha * power
    return [factor * mean, factor * factor * variance + alpha * alpha * lr * lr * noise_variance * noise]
""",
            "ascent": """
def ascent(gradients, rho, p):
    total = math.hypot(*[float(entry) for g in gradients for entry in g.flat])
    out = []
    for g in gradients:
        e = np.zeros(g.shape)
        for place, entry in np.ndenumerate(g):
            if entry != 0:
                e[place] = rho * entry / total if p == 2 else math.copysign(rho, entry)
        out.append(e)
    return out
""",
            "sam-cycle": """
def sam_cycle(eigenvalues, rho, lr, p):
    sizes = []
    for value in eigenvalues:
        if p == 2 and value < max(eigenvalues):
            sizes.append(0.0)
        else:
            sizes.append(lr * value * rho / (2 - lr * value))
    return sizes
""",
            "tilted-risk": """
def tilted_risk(losses, t):
    n = len(losses)
    if t == 0:
        return sum(float(l) / n for l in losses)
    m = float(max(losses) if t > 0 else min(losses))
    if math.isinf(t):
        return m
    total = 0.0
    for l in losses:
        total += math.expm1(t * (float(l) - m))
    return m + math.log1p(total / n) / t
""",
            "tilted-weights": """
def tilted_weights(losses, t):
    m = max(losses) if t > 0 else min(losses)
    if math.isinf(t):
        shares = [1.0 if l == m else 0.0 for l in losses]
    else:
        shares = [math.exp(t * (l - m)) for l in losses]
    return [share / sum(shares) for share in shares]
""",
            "reweighted-fit": """
def reweighted_fit(A, y, weight, start, steps):
    n, d = A.shape
    theta = list(start)
    for _ in range(steps):
        v = weight(np.array([sum(A[i, j] * theta[j] for j in range(d)) - y[i] for i in range(n)]))
        left = [[sum(v[i] * A[i, j] * A[i, l] for i in range(n)) for l in range(d)] for j in range(d)]
        right = [sum(v[i] * A[i, j] * y[i] for i in range(n)) for j in range(d)]
        theta = list(np.linalg.solve(left, right))
    return theta
""",
        },
    ),
    Variant(
        "SciPy",
        {
            "ascent": """
def ascent(gradients, rho, p):
    from scipy.linalg import norm

    if p != 2:
        return [np.sign(g) * rho for g in gradients]
    length = norm(np.hstack([g.ravel() for g in gradients]))  # BLAS scales
    return [g / length * rho if length else g for g in gradients]
""",
            "lr-for-loss": """
def lr_for_loss(curvature, rho, loss):
    def too_much(share):
        u = share * rho / (2 - share)
        return math.log(curvature * u**2 / 2) - math.log(loss)

    return brentq(too_much, 1e-12, 2 - 1e-12, xtol=1e-15, rtol=1e-14) / curvature
""",
            "tilted-risk": """
def tilted_risk(losses, t):
    if t == 0 or math.isinf(t):
        return {0: np.mean, math.inf: np.max, -math.inf: np.min}[t](losses)
    away = losses - losses.mean()
    if np.abs(t * away).max() < 1e-7:
        return losses.mean() + t * np.mean(away**2) / 2
    extreme = losses.max() if t > 0 else losses.min()
    return extreme + logsumexp(t * (losses - extreme), b=1 / losses.size) / t
""",
            "tilted-weights": """
def tilted_weights(losses, t):
    if math.isinf(t):
        best = rankdata(-losses if t > 0 else losses, method="min") == 1
        return best / best.sum()
    return softmax(t * losses)
""",
            "reweighted-fit": """
def reweighted_fit(A, y, weight, start, steps):
    theta = np.copy(start)
    for _ in range(steps):
        root = np.sqrt(weight(A @ theta - y))
        theta = scipy.linalg.lstsq(root[:, None] * A, root * y)[0]
    return theta
""",
        },
        {
            "ascent": "from scipy.optimize import brentq\nfrom scipy.special import logsumexp, softmax\n"
            "from scipy.stats import rankdata",
            "reweighted-fit": "import scipy.linalg",
        },
    ),
    Variant(
        "recursion",
        {
            "lookahead": """
def lookahead(step, x0, state0, k, alpha, cycles, reset=False):
    def cycle(slow, state, left):
        if left == 0:
            return [slow]
        fast, state = walk(slow.copy(), state0 if reset else state, k)
        return [slow, *cycle(slow + alpha * (fast - slow), state, left - 1)]

    def walk(x, state, left):
        return (x, state) if left == 0 else walk(*step(x, state), left - 1)

    return np.array(cycle(np.array(x0), state0, cycles))
""",
            "outer-step": '''
def outer_step(mean, variance, curvature, noise_variance, lr, k, alpha):
    def fast(j):
        """The share of phi in theta_j, and the variance of its noise."""
        if j == 0:
            return 1.0, 0.0
        share, noise = fast(j - 1)
        P = 1 - lr * curvature
        return P * share, P**2 * noise + lr**2 * noise_variance

    share, noise = fast(k)
    factor = 1 + alpha * (share - 1)
    return factor * mean, factor**2 * variance + alpha**2 * noise
''',
            "noise-floor": """
def noise_floor(curvature, noise_variance, lr, k, alpha):
    setting = (curvature, noise_variance, lr, k, alpha)
    factor, _ = outer_step(1.0, 0.0, *setting)
    if not -1 < factor < 1:
        return np.inf
    _, fresh = outer_step(0.0, 0.0, *setting)
    return fresh / (1 - factor) / (1 + factor)
""",
        },
    ),
    Variant(
        "a class, and a covariance matrix",
        {
            "lookahead": """
def lookahead(step, x0, state0, k, alpha, cycles, reset=False):
    walker = Walker(step, x0, state0)
    rows = [x0.copy()]
    for _ in range(cycles):
        rows.append(walker.cycle(k, alpha, reset).copy())
    return np.vstack(rows)
""",
            "outer-step": """
def outer_step(mean, variance, curvature, noise_variance, lr, k, alpha):
    # slow and fast weights as one vector
    center, covariance = np.full(2, float(mean)), np.full((2, 2), float(variance))
    fast_step = np.diag([1, 1 - lr * curvature])
    for _ in range(k):
        center = fast_step @ center
        covariance = fast_step @ covariance @ fast_step.T + np.diag([0, lr**2 * noise_variance])
    mix = np.array([1 - alpha, alpha])
    return mix @ center, mix @ covariance @ mix
""",
        },
        {
            "lookahead": '''
class Walker:
    """Slow weights, and the state of the fast ones."""

    def __init__(self, step, x, state):
        self.step, self.slow, self.first, self.state = step, np.array(x), state, state

    def cycle(self, k, alpha, reset):
        x = self.slow + 0.0
        if reset:
            self.state = self.first
        for _ in range(k):
            x, self.state = self.step(x, self.state)
        self.slow = self.slow - alpha * (self.slow - x)
        return self.slow
'''
        },
    ),
    Variant(
        "closed forms with early returns",
        {
            "outer-step": """
def outer_step(mean, variance, curvature, noise_variance, lr, k, alpha):
    P = 1 - lr * curvature
    G = k if P * P == 1 else (1 - P ** (2 * k)) / (1 - P**2)
    rho = 1 - alpha * (1 - P**k)
    return np.array([rho * mean, rho**2 * variance + alpha**2 * lr**2 * noise_variance * G])
""",
            "noise-floor": """
def noise_floor(curvature, noise_variance, lr, k, alpha):
    u = lr * curvature
    P = 1 - u
    if k % 2 == 0 and u >= 2:
        return float("inf")
    if k % 2 == 1 and u >= 1 + (2 / alpha - 1) ** (1 / k):
        return float("inf")
    if u == 2:
        return alpha * k * lr**2 * noise_variance / (2 * (2 - 2 * alpha))
    return alpha * (1 + P**k) / (2 - alpha + alpha * P**k) * lr**2 * noise_variance / (1 - P**2)
""",
            "sam-cycle": """
def sam_cycle(eigenvalues, rho, lr, p):
    d = len(eigenvalues)
    if p == math.inf:
        return rho / (2 / (lr * np.array(eigenvalues)) - 1)
    top = int(np.argmax(eigenvalues))
    return np.eye(d)[top] * rho * lr * eigenvalues[top] / (2 - lr * eigenvalues[top])
""",
            "lr-for-loss": """
def lr_for_loss(curvature, rho, loss):
    return 2 / (curvature + rho * (curvature**3 / (2 * loss)) ** 0.5)
""",
        },
    ),
    Variant(
        "type hints, prints and other names",
        {
            "sam-step": '''
def sam_step(gradient, x: np.ndarray, m: np.ndarray, lr: float, momentum: float, rho: float, p: float = 2):
    """A step of SAM."""
    first: np.ndarray = gradient(x)
    size: float = float(np.sqrt(np.sum(first**2)))
    print("length of the first gradient:", size)
    uphill: np.ndarray = np.sign(first) if p > 2 else first / (size if size else 1.0)
    second: np.ndarray = gradient(x + rho * uphill)
    memory: np.ndarray = second + momentum * m
    print("step", -lr * memory)
    return x - lr * memory, memory
''',
            "noise-floor": """
def noise_floor(curvature: float, noise_variance: float, lr: float, k: int, alpha: float) -> float:
    shrink: float = 1 - lr * curvature
    per_cycle: float = (1 - alpha) + alpha * shrink**k
    print(f"one outer step multiplies the mean by {per_cycle:.4f}")
    if per_cycle**2 >= 1:
        return math.inf
    errors: float = np.sum(shrink ** (2 * np.arange(k)))
    return float(alpha**2 * lr**2 * noise_variance * errors / (1 - per_cycle**2))
""",
            "lr-for-loss": """
def lr_for_loss(curvature: float, rho: float, loss: float) -> float:
    distance: float = np.sqrt(loss / (0.5 * curvature))
    print("the cycle is", distance, "away")
    product: float = 2 / (1 + rho / distance)
    return product / curvature
""",
        },
    ),
    Variant(
        "lambdas and comprehensions",
        {
            "ascent": """
ascent = lambda gradients, rho, p: (
    [rho * np.sign(g) for g in gradients] if p == math.inf else [rho * u for u in unit_vectors(gradients)]
)
""",
            "sam-cycle": """
sam_cycle = lambda eigenvalues, rho, lr, p: np.array(
    [rho * lr * e / (2 - lr * e) * (p != 2 or e == eigenvalues.max()) for e in eigenvalues]
)
""",
            "lr-for-loss": """
lr_for_loss = lambda curvature, rho, loss: (lambda u: 2 * u / (curvature * (u + rho)))((2 * loss / curvature) ** 0.5)
""",
            "noise-floor": """
noise_floor = lambda curvature, noise_variance, lr, k, alpha: (
    lambda P: (
        math.inf
        if abs(1 - alpha + alpha * P**k) >= 1
        else alpha * lr**2 * noise_variance * sum(P ** (2 * j) for j in range(k)) / (1 - P**k) / (2 - alpha * (1 - P**k))
    )
)(1 - lr * curvature)
""",
        },
        {
            "ascent": '''
def unit_vectors(gradients):
    """All layers divided by their common length."""
    tops = [np.max(np.abs(g)) for g in gradients]
    if not any(tops):
        return gradients
    exponent = int(np.frexp(max(tops))[1])
    safe = [np.ldexp(g, -exponent) for g in gradients]  # a power of two costs no digits
    return [g / np.sqrt(np.sum([np.vdot(h, h) for h in safe])) for g in safe]
'''
        },
    ),
    Variant(
        "einsum and matrix functions",
        {
            "sam-step": """
def sam_step(gradient, x, m, lr, momentum, rho, p=2):
    g = gradient(x)
    if p == np.inf:
        direction = (g > 0).astype(float) - (g < 0)
    else:
        square = np.einsum("i,i->", g, g)
        direction = g * (square**-0.5 if square > 0 else 0.0)
    g = gradient(x + rho * direction)
    new = np.einsum("c,ci->i", [momentum, 1.0], np.stack([m, g]))
    return np.einsum("c,ci->i", [1.0, -lr], np.stack([x, new])), new
""",
            "reweighted-fit": """
def reweighted_fit(A, y, weight, start, steps):
    theta = start
    for _ in range(steps):
        v = weight(np.einsum("nd,d->n", A, theta) - y)
        gram = np.einsum("n,nd,ne->de", v, A, A)
        theta = np.linalg.inv(gram) @ np.einsum("n,nd,n->d", v, A, y)
    return theta
""",
            "tilted-weights": """
def tilted_weights(losses, t):
    pairs = losses[None, :] - losses[:, None]
    if np.isinf(t):
        wins = (pairs * np.sign(t) <= 0).all(axis=1)
        return wins / np.count_nonzero(wins)
    with np.errstate(over="ignore"):
        return 1 / np.einsum("ij->i", np.exp(t * pairs))
""",
        },
    ),
    Variant(
        "generators and itertools",
        {
            "lookahead": """
def lookahead(step, x0, state0, k, alpha, cycles, reset=False):
    return np.stack([*islice(slow_weights(step, x0, state0, k, alpha, reset), cycles + 1)])
""",
            "sam-step": """
def sam_step(gradient, x, m, lr, momentum, rho, p=2):
    g = np.asarray(gradient(x.copy()))
    norm = {2: lambda: np.hypot.reduce(g), math.inf: lambda: np.where(g == 0, 1, np.abs(g))}[p]()
    epsilon = np.divide(rho * g, norm, out=np.zeros_like(g), where=np.broadcast_to(norm, g.shape) != 0)
    y = np.add(x, epsilon)
    memory = m * momentum
    memory += gradient(y)
    return np.subtract(x, lr * memory), memory
""",
        },
        {
            "lookahead": '''
from itertools import islice


def slow_weights(step, x, state, k, alpha, reset):
    """Endlessly."""
    first = state
    while True:
        yield x
        y = np.array(x)
        if reset:
            state = first
        for _ in range(k):
            y, state = step(y, state)
        x = x * (1 - alpha) + y * alpha
'''
        },
    ),
    Variant(
        "gradient and Newton: the quadratic's minimum by one Newton step",
        {
            "reweighted-fit": """
def reweighted_fit(A, y, weight, start, steps):
    theta = np.asarray(start, dtype=float)
    for _ in range(steps):
        residuals = A @ theta - y
        v = np.asarray(weight(residuals))
        hessian = 2 * A.T @ np.diag(v) @ A
        theta = theta - np.linalg.solve(hessian, 2 * A.T @ (v * residuals))
    return theta
""",
            "sam-cycle": """
def sam_cycle(eigenvalues, rho, lr, p):
    u = np.zeros(len(eigenvalues))
    chosen = range(len(u)) if math.isinf(p) else [int(np.argsort(eigenvalues)[-1])]
    for i in chosen:
        # -u = (1 - a) u - a rho, a linear equation
        u[i] = np.linalg.solve([[2 - lr * eigenvalues[i]]], [lr * eigenvalues[i] * rho])[0]
    return u
""",
            "tilted-risk": """
def tilted_risk(losses, t):
    if t < 0:
        return -tilted_risk(-losses, -t)
    if t == math.inf:
        return max(losses)
    if t == 0:
        return np.mean(losses)
    z = t * (losses - np.max(losses))
    share = np.exp(z).mean()
    log = np.log(share) if share < 0.5 else np.log1p(np.expm1(z).mean())
    return np.max(losses) + log / t
""",
        },
    ),
    Variant(
        "SAM with an optimizer's own loop, NaN replaced, sorted losses",
        {
            "sam-step": """
def sam_step(gradient, x, m, lr, momentum, rho, p=2):
    home = x.copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        for climb in (True, False):
            g = gradient(x)
            if climb:
                q = 2 if p == 2 else 1
                power = np.abs(g) ** (q - 1) / np.sum(np.abs(g) ** q) ** (1 / p)
                x = x + rho * np.sign(g) * np.nan_to_num(power)
    x = home
    m = g + momentum * m
    return x - lr * m, m
""",
            "tilted-weights": """
def tilted_weights(losses, t):
    order = np.argsort(losses)
    ranked = losses[order] if t <= 0 else losses[order][::-1]
    order = order if t <= 0 else order[::-1]
    if abs(t) == np.inf:
        shares = np.where(ranked == ranked[0], 1.0, 0.0)
    else:
        shares = np.exp(-abs(t) * np.abs(ranked - ranked[0]))
    result = np.empty(len(losses))
    result[order] = shares
    return result / result.sum()
""",
        },
    ),
    Variant(
        "names of Python's own functions used for something else",
        {
            "outer-step": """
def outer_step(mean, variance, curvature, noise_variance, lr, k, alpha):
    power = (1 - lr * curvature) ** np.arange(k + 1)
    share = 1 - alpha + alpha * power[k]
    return share * mean, share**2 * variance + alpha**2 * lr**2 * noise_variance * (power[:k] @ power[:k])
""",
            "noise-floor": """
def noise_floor(curvature, noise_variance, lr, k, alpha):
    power = (1 - lr * curvature) ** np.arange(k + 1)
    share = 1 - alpha + alpha * power[k]
    new = alpha**2 * lr**2 * noise_variance * (power[:k] @ power[:k])
    return new / (1 - share**2) if np.abs(share) < 1 else np.inf
""",
        },
        {
            "outer-step": "id = 'outer step'\nx, m, losses, start, layers = 1, 2, 3, 4, 5",
            "reweighted-fit": "sum, max, list = 0, [], 'a list of mine'",
        },
    ),
    Variant(
        "helpers with the names of test cells' results",
        {
            "ascent": """\
def ascent(gradients, rho, p):
    whole = flat(gradients)
    if p == 2:
        top = np.linalg.norm(whole, np.inf)
        whole = whole / top if top else whole
        arrow = whole / np.linalg.norm(whole) if top else whole
    else:
        arrow = np.sign(whole)
    cuts = np.cumsum([np.size(g) for g in gradients])[:-1]
    return [rho * part.reshape(np.shape(g)) for part, g in zip(np.split(arrow, cuts), gradients)]
""",
            "noise-floor": """\
def noise_floor(curvature, noise_variance, lr, k, alpha):
    return floor(1 - lr * curvature, (alpha * lr) ** 2 * noise_variance, k, alpha)
""",
            "sam-cycle": """\
def sam_cycle(eigenvalues, rho, lr, p):
    u = rho * step(lr * eigenvalues[:])
    if p != 2:
        return u
    only = np.zeros_like(u)
    only[eigenvalues.argmax()] = u[eigenvalues.argmax()]
    return only
""",
            "reweighted-fit": """\
def reweighted_fit(A, y, weight, start, steps):
    if steps == 0:
        return start[:]
    return reweighted_fit(A, y, weight, square(A[:], y, weight(A.dot(start) - y)), steps - 1)
""",
        },
        {
            "ascent": """\
def flat(arrays):
    return np.hstack([np.reshape(a, -1) for a in arrays])
""",
            "noise-floor": """\
def floor(P, noise, k, alpha):
    factor = 1 + alpha * (P**k - 1)
    total = noise * np.polyval(np.ones(k), P**2)
    return total / (1 - factor**2) if -1 < factor < 1 else np.inf
""",
            "sam-cycle": """\
def step(a):
    return a / (2 - a)
""",
            "reweighted-fit": """\
def square(A, y, v):
    root = np.sqrt(v)
    return np.linalg.lstsq(root[:, None] * A, root * y, rcond=None)[0]
""",
        },
    ),
]
