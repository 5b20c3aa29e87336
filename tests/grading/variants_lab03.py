"""Correct solutions of lab 03 in other styles; each keeps every point."""

from grading_cases import Variant

#: What students call their variables, although Python has functions of these names.
OWN_NAMES = """\
sum, max, min, len, range, abs, round = 0, 10, -1, 4, [1, 2], 0.5, 3
str, list, dict, type, id, input, set, bool, int, float = "p", [3], {}, "heavy", 7, [1.0], {1}, True, 2, 0.1
all, any, iter, next, map, filter, sorted, pow, hash, vars, format, slice = ([0.0],) * 12
for k in [1, 2, 3]:
    sum += k
"""

VARIANTS = [
    Variant(
        "loops over coordinates, tables filled entry by entry",
        cells={
            "heavy-ball": """\
def heavy_ball(gradient, x0, lr, momentum, steps):
    d = len(x0)
    path = np.zeros((steps + 1, d))
    m = np.zeros(d)
    for i in range(d):
        path[0, i] = x0[i]
    for k in range(steps):
        g = gradient(path[k])
        for i in range(d):
            m[i] = momentum * m[i] + g[i]
            path[k + 1, i] = path[k, i] - lr * m[i]
    return path
""",
            "nesterov": """\
def nesterov(gradient, p0, lr, momentum, steps):
    p, x, b = np.zeros((steps + 1, len(p0))), np.zeros((steps + 1, len(p0))), np.zeros(len(p0))
    p[0] = x[0] = p0
    for k in range(steps):
        g = gradient(p[k])
        b = momentum * b + g
        p[k + 1] = p[k] - lr * g - lr * momentum * b
        x[k + 1] = x[k] - lr * b
    return p, x
""",
            "largest-root": """\
def largest_root(gamma_lambda, momentum, nesterov=False):
    gamma_lambda, momentum = np.broadcast_arrays(gamma_lambda, momentum)
    factor = np.zeros(gamma_lambda.shape)
    for i in np.ndindex(factor.shape):
        gl, beta = gamma_lambda[i], momentum[i]
        if nesterov:
            b, c = (1 + beta) * (1 - gl), beta * (1 - gl)
        else:
            b, c = 1 + beta - gl, beta
        if b**2 - 4 * c < 0:
            factor[i] = np.sqrt(c)
        else:
            root = np.sqrt(b**2 - 4 * c)
            factor[i] = max(abs(b + root), abs(b - root)) / 2
    return factor
""",
            "stable-lr": """\
def largest_stable_lr(L, momentum, nesterov=False):
    one = np.ndim(momentum) == 0
    edges = []
    for beta in np.atleast_1d(momentum):
        if nesterov:
            edges.append(2 * (1 + beta) / (1 + 2 * beta) / L)
        else:
            edges.append(2 * (1 + beta) / L)
    return edges[0] if one else np.array(edges)
""",
            "steps-needed": """\
def steps_needed(kappa, goal):
    rho = (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)
    for k in range(10**9):
        if (1 + (1 + rho) * k) * rho**k <= goal:
            return k
""",
            "cycle": """\
def cycle_points(lr, momentum):
    matrix, right = [[0] * 3 for _ in range(3)], [0, 0, 0]
    points = ("p", "q", "r")
    for i in range(3):
        before, here, then = (i - 1) % 3, i, (i + 1) % 3
        matrix[i][then] -= 1
        matrix[i][here] += 1 + momentum - 25 * lr
        matrix[i][before] -= momentum
        if points[i] == "r":
            right[i] = -24 * lr
    p, q, r = solve_exactly(matrix, right)
    if p < 1 and q < 1 and r >= 2:
        return [p, q, r]
    return None
""",
            "period": """\
def period(gradient, x_old, x, lr, momentum, longest=50):
    history = [(x_old, x)]
    for n in range(1, longest + 1):
        x_old, x = history[-1]
        history.append((x, x - lr * gradient(x) + momentum * (x - x_old)))
        if history[n] == history[0]:
            return n
    return 0
""",
        },
    ),
    Variant(
        "in place wherever nothing is said against it",
        cells={
            "heavy-ball": """\
def heavy_ball(gradient, x0, lr, momentum, steps):
    x, m, xs = np.array(x0, float), 0, [np.array(x0, float)]
    for _ in range(steps):
        g = gradient(x)
        g += momentum * m
        m = g.copy()
        g *= lr
        x -= g
        xs.append(x.copy())
    return np.array(xs)
""",
            "nesterov": """\
def nesterov(gradient, p0, lr, momentum, steps):
    b, ps, xs = np.zeros(len(p0)), [p0 + 0.0], [p0 + 0.0]
    for _ in range(steps):
        g = gradient(p0)
        b *= momentum
        b += g
        g += momentum * b
        g *= lr
        p0 -= g
        ps.append(p0.copy())
        xs.append(p0 + lr * momentum * b)
    return np.array(ps), np.array(xs)
""",
            "largest-root": """\
def largest_root(gamma_lambda, momentum, nesterov=False):
    gamma_lambda = 1 - np.asarray(gamma_lambda)
    c = np.array(momentum + 0 * gamma_lambda, dtype=complex)
    b = np.array(c + gamma_lambda)
    if nesterov:
        b[...] = (1 + c) * gamma_lambda
        c *= gamma_lambda
    root = np.array(b * b)
    root -= 4 * c
    root **= 0.5
    return np.maximum(np.abs(b + root), np.abs(b - root)) / 2
""",
            "polyak": """\
def polyak_parameters(mu, L):
    result = {}
    result["factor"] = L**0.5 - mu**0.5
    result["factor"] /= L**0.5 + mu**0.5
    result["momentum"] = result["factor"] ** 2
    result["lr"] = ((1 + result["factor"]) / L**0.5) ** 2
    return result
""",
            "steps-needed": """\
def steps_needed(kappa, goal):
    kappa **= 0.5
    rho, k, power = (kappa - 1) / (kappa + 1), 0, 1.0
    while (1 + (1 + rho) * k) * power > goal:
        power *= rho
        k += 1
    return k
""",
        },
    ),
    Variant(
        "torch inside, arrays come back",
        cells={
            "heavy-ball": """\
import torch


def heavy_ball(gradient, x0, lr, momentum, steps):
    x = torch.nn.Parameter(torch.tensor(x0, dtype=torch.float64))
    optimizer = torch.optim.SGD([x], lr=lr, momentum=momentum)
    path = [x.detach().numpy().copy()]
    for _ in range(steps):
        x.grad = torch.tensor(gradient(x.detach().numpy().copy()))
        optimizer.step()
        path.append(x.detach().numpy().copy())
    return np.stack(path)
""",
            "nesterov": """\
def nesterov(gradient, p0, lr, momentum, steps):
    p = torch.nn.Parameter(torch.tensor(p0, dtype=torch.float64))
    optimizer = torch.optim.SGD([p], lr=lr, momentum=momentum, nesterov=momentum > 0)
    ps, xs = [p.detach().clone()], [p.detach().clone()]
    for _ in range(steps):
        p.grad = torch.tensor(gradient(p.detach().numpy().copy()))
        optimizer.step()
        ps.append(p.detach().clone())
        memory = optimizer.state[p].get("momentum_buffer")
        xs.append(ps[-1] + lr * momentum * memory if memory is not None else ps[-1])
    return torch.stack(ps).numpy(), torch.stack(xs).numpy()
""",
            "largest-root": """\
def largest_root(gamma_lambda, momentum, nesterov=False):
    gl, beta = torch.as_tensor(gamma_lambda).double(), torch.as_tensor(momentum).double()
    gl, beta = torch.broadcast_tensors(gl, beta)
    b = (1 + beta) * (1 - gl) if nesterov else 1 + beta - gl
    c = beta * (1 - gl) if nesterov else beta
    matrix = torch.stack([torch.stack([b, -c], -1), torch.stack([torch.ones_like(b), torch.zeros_like(b)], -1)], -2)
    return torch.linalg.eigvals(matrix).abs().amax(-1).numpy()
""",
            "stable-lr": """\
def largest_stable_lr(L, momentum, nesterov=False):
    beta = torch.tensor(momentum, dtype=torch.float64)
    edge = (2 + 2 * beta) / L
    if nesterov:
        edge = edge / (1 + 2 * beta)
    return edge.numpy()
""",
            "polyak": """\
def polyak_parameters(mu, L):
    a, b = torch.tensor([mu, L], dtype=torch.float64).sqrt()
    factor = (b - a) / (b + a)
    return {"factor": factor.item(), "momentum": factor.square().item(), "lr": (4 / (a + b) ** 2).item()}
""",
        },
    ),
    Variant(
        "helper functions with the names that tests like to use",
        cells={
            "heavy-ball": """\
def heavy_ball(gradient, x0, lr, momentum, steps):
    return np.stack([x for x, _ in path(step, gradient, start(x0), lr, momentum, steps)])
""",
            "nesterov": """\
def nesterov(gradient, p0, lr, momentum, steps):
    states = list(path(ahead, gradient, start(p0), lr, momentum, steps))
    return np.stack([p for p, _ in states]), np.stack([p + lr * momentum * b for p, b in states])
""",
            "largest-root": """\
def largest_root(gamma_lambda, momentum, nesterov=False):
    b, c = (tilt if nesterov else plain)(1 - gamma_lambda, momentum)
    return worst(b, np.sqrt(np.asarray(b * b - 4 * c, dtype=complex)))
""",
            "stable-lr": """\
def largest_stable_lr(L, momentum, nesterov=False):
    return edge(momentum, method(nesterov, momentum)) / L
""",
            "polyak": """\
def polyak_parameters(mu, L):
    return dict(lr=4 / small(mu, L) ** 2, momentum=best(mu, L) ** 2, factor=best(mu, L))
""",
            "steps-needed": """\
def steps_needed(kappa, goal):
    rho = best(1, kappa)
    return next(n for n in count() if slope(rho, n) <= goal)
""",
            "cycle": """\
def cycle_points(lr, momentum):
    p, q, r = cycle(lr, momentum)
    return [p, q, r] if beaten(p, q, r) else None
""",
            "period": """\
def period(gradient, x_old, x, lr, momentum, longest=50):
    pair = x_old, x
    for n in range(1, longest + 1):
        pair = damped(gradient, pair, lr, momentum)
        if pair == (x_old, x):
            return n
    return 0
""",
        },
        helpers={
            "heavy-ball": """\
from itertools import count

def start(x0):
    return np.array(x0, dtype=float), np.zeros(len(x0))

def path(rule, gradient, state, lr, momentum, steps):
    yield state
    for _ in range(steps):
        state = rule(gradient, state, lr, momentum)
        yield state

def step(gradient, state, lr, momentum):
    x, m = state
    m = momentum * m + gradient(x)
    return x - lr * m, m

def ahead(gradient, state, lr, momentum):
    p, b = state
    g = gradient(p)
    b = momentum * b + g
    return p - lr * (g + momentum * b), b

def plain(rest, momentum):
    return rest + momentum, momentum

def tilt(rest, momentum):
    return (1 + momentum) * rest, momentum * rest

def worst(b, root):
    return np.maximum(abs(b + root), abs(b - root)) / 2

def edge(momentum, divisor):
    return 2 * (1 + momentum) / divisor

def method(nesterov, momentum):
    return 1 + 2 * momentum if nesterov else 1

def small(mu, L):
    return L**0.5 + mu**0.5

def best(mu, L):
    return (L**0.5 - mu**0.5) / small(mu, L)

def slope(rho, k):
    return (1 + (1 + rho) * k) * rho**k

def cycle(lr, momentum):
    a = 1 + momentum - 25 * lr
    return solve_exactly([[a, -1, -momentum], [-momentum, a, -1], [-1, -momentum, a]], [0, 0, -24 * lr])

def beaten(p, q, r):
    return p < 1 and q < 1 and r >= 2

def damped(gradient, pair, lr, momentum):
    x_old, x = pair
    return x, x - lr * gradient(x) + momentum * (x - x_old)
""",
        },
    ),
    Variant(
        "more such names, for the numbers that a student looks at between the exercises",
        cells={
            "heavy-ball": """\
def heavy_ball(gradient, x0, lr, momentum, steps):
    xs = [x0 * one, x0 - lr * gradient(x0 * one)][: steps + 1]
    while len(xs) <= steps:
        xs.append(xs[-1] - lr * gradient(xs[-1]) + momentum * (xs[-1] - xs[-2]))
    return np.stack(xs)
""",
            "largest-root": """\
def largest_root(gamma_lambda, momentum, nesterov=False):
    b, c = (1 + momentum - gamma_lambda, momentum + 0 * gamma_lambda)
    if nesterov:
        b, c = (1 + momentum) * (1 - gamma_lambda), momentum * (1 - gamma_lambda)
    d = b**x_old - k * c
    real = (np.abs(b) + np.sqrt(np.maximum(d, 0))) / x_old
    return np.where(d < 0, np.sqrt(np.abs(c)), real)
""",
            "cycle": """\
def cycle_points(lr, momentum):
    a = x + momentum - step * lr
    p, q, r = solve_exactly([[a, -x, -momentum], [-momentum, a, -x], [-x, -momentum, a]], [0, 0, -(step - x) * lr])
    return [p, q, r] if p < cycle and q < cycle and r >= x_old else None
""",
            "period": """\
def period(gradient, x_old, x, lr, momentum, longest=50):
    a, b = x_old, x
    for n in start:
        if n > longest:
            break
        a, b = b, b - lr * gradient(b) + momentum * (b - a)
        if a == x_old and b == x:
            return n
    return 0
""",
        },
        helpers={
            "heavy-ball": "one, x, cycle, x_old, k, step, start = 1.0, 1, 1, 2, 4, 25, range(1, 1000)",
            "cycle": "p, q, r, lr, momentum, best, slope, name, edge, method, look = (None,) * 11",
        },
    ),
    Variant(
        "own variables that are called sum, max, list, str and so on",
        cells={
            "heavy-ball": """\
def heavy_ball(gradient, x0, lr, momentum, steps):
    sum, list = 0.0 * x0, [1.0 * x0]
    for _ in np.arange(steps):
        sum = momentum * sum + gradient(list[-1])
        list.append(list[-1] - lr * sum)
    return np.stack(list)
""",
            "nesterov": """\
def nesterov(gradient, p0, lr, momentum, steps):
    next, input, list, dict = 1.0 * p0, 0.0 * p0, [1.0 * p0], [1.0 * p0]
    for _ in np.arange(steps):
        max = gradient(next)
        input = momentum * input + max
        next = next - lr * (max + momentum * input)
        list += [next]
        dict += [next + lr * momentum * input]
    return np.stack(list), np.stack(dict)
""",
            "largest-root": """\
def largest_root(gamma_lambda, momentum, nesterov=False):
    abs = 1 - gamma_lambda
    sum = (1 + momentum) * abs if nesterov else momentum + abs
    pow = momentum * abs if nesterov else momentum
    round = np.sqrt(sum * sum - 4 * pow + 0j)
    return np.maximum(np.abs(sum + round), np.abs(sum - round)) / 2
""",
            "stable-lr": """\
def largest_stable_lr(L, momentum, nesterov=False):
    type = 1 + 2 * momentum if nesterov else 1
    return 2 * (1 + momentum) / (type * L)
""",
            "polyak": """\
def polyak_parameters(mu, L):
    max, min = np.sqrt(L), np.sqrt(mu)
    id = (max - min) / (max + min)
    return {"lr": 4 / (max + min) ** 2, "momentum": id * id, "factor": id}
""",
            "steps-needed": """\
def steps_needed(kappa, goal):
    hash = (kappa**0.5 - 1) / (kappa**0.5 + 1)
    len = 0
    while (1 + len + hash * len) * hash**len > goal:
        len += 1
    return len
""",
            "cycle": """\
def cycle_points(lr, momentum):
    max = 1 + momentum - 25 * lr
    list = solve_exactly([[max, -1, -momentum], [-momentum, max, -1], [-1, -momentum, max]], [0, 0, -24 * lr])
    if list[0] < 1 and list[1] < 1 and list[2] >= 2:
        return list
""",
            "period": """\
def period(gradient, x_old, x, lr, momentum, longest=50):
    set, iter = (x_old, x), 0
    while iter < longest:
        iter += 1
        x_old, x = x, x - lr * gradient(x) + momentum * (x - x_old)
        if set == (x_old, x):
            return iter
    return 0
""",
        },
        helpers={"heavy-ball": OWN_NAMES},
    ),
    Variant(
        "from numpy import *, from math import *",
        cells={
            "heavy-ball": """\
from math import *

from numpy import *


def heavy_ball(gradient, x0, lr, momentum, steps):
    x = empty((steps + 1, x0.size))
    x[0], m = x0, zeros(x0.size)
    for k in arange(steps):
        m = momentum * m + gradient(x[k])
        x[k + 1] = x[k] - lr * m
    return x
""",
            "largest-root": """\
def largest_root(gamma_lambda, momentum, nesterov=False):
    if nesterov:
        b, c = (1 + momentum) * (1 - gamma_lambda), momentum * (1 - gamma_lambda)
    else:
        b, c = 1 + momentum - gamma_lambda, momentum * ones_like(gamma_lambda)
    root = emath.sqrt(b**2 - 4 * c)
    return max([abs((b + root) / 2), abs((b - root) / 2)], axis=0)
""",
            "stable-lr": """\
def largest_stable_lr(L, momentum, nesterov=False):
    return where(nesterov, 2 * (1 + momentum) / (L + 2 * L * momentum), 2 * (1 + momentum) / L)
""",
            "polyak": """\
def polyak_parameters(mu, L):
    factor = 1 - 2 / (1 + sqrt(L / mu))
    return {"momentum": factor**2, "factor": factor, "lr": (1 + factor) ** 2 / L}
""",
            "steps-needed": """\
def steps_needed(kappa, goal):
    rho = (sqrt(kappa) - 1) / (sqrt(kappa) + 1)
    k = arange(100_000)
    return int(argmax((1 + (1 + rho) * k) * rho**k <= goal))
""",
        },
    ),
    Variant(
        "lambdas and conditional expressions",
        cells={
            "heavy-ball": """\
after = lambda f, x, m, lr, b, n: iterates(f, x - lr * (b * m + f(x)), b * m + f(x), lr, b, n - 1)
iterates = lambda f, x, m, lr, b, n: [x] + (after(f, x, m, lr, b, n) if n else [])
heavy_ball = lambda gradient, x0, lr, momentum, steps: np.stack(
    iterates(gradient, np.asarray(x0, dtype=float), np.zeros(len(x0)), lr, momentum, steps)
)
""",
            "largest-root": """\
larger = lambda b, c: np.maximum(*(np.abs(b / 2 + sign * np.sqrt(b * b / 4 - c + 0j)) for sign in (1, -1)))
largest_root = lambda gamma_lambda, momentum, nesterov=False: (
    larger((1 + momentum) * (1 - gamma_lambda), momentum * (1 - gamma_lambda))
    if nesterov
    else larger(1 + momentum - gamma_lambda, momentum)
)
""",
            "stable-lr": """\
largest_stable_lr = lambda L, momentum, nesterov=False: (
    2 / L * (1 + momentum) / (1 + 2 * momentum) if nesterov else 2 / L * (1 + momentum)
)
""",
            "polyak": """\
rho = lambda kappa: (kappa**0.5 - 1) / (kappa**0.5 + 1)
polyak_parameters = lambda mu, L: {"lr": (1 + rho(L / mu)) ** 2 / L, "momentum": rho(L / mu) ** 2, "factor": rho(L / mu)}
""",
            "cycle": """\
good = lambda c: c if c[0] < 1 and c[1] < 1 and c[2] >= 2 else None
rows = lambda a, b: [[a, -1, -b], [-b, a, -1], [-1, -b, a]]
cycle_points = lambda lr, momentum: good(solve_exactly(rows(1 + momentum - 25 * lr, momentum), [0, 0, -24 * lr]))
""",
        },
    ),
    Variant(
        "objects that can be called",
        cells={
            "heavy-ball": """\
class Momentum:
    def __init__(self, x, lr, momentum):
        self.x, self.m, self.lr, self.momentum = np.array(x, float), np.zeros(np.shape(x)), lr, momentum

    def step(self, gradient):
        self.m = self.momentum * self.m + gradient(self.x)
        self.x = self.x - self.lr * self.m

    def run(self, gradient, steps):
        yield self.x
        for _ in range(steps):
            self.step(gradient)
            yield self.x


def heavy_ball(gradient, x0, lr, momentum, steps):
    return np.stack([*Momentum(x0, lr, momentum).run(gradient, steps)])
""",
            "nesterov": """\
class Nesterov(Momentum):
    def step(self, gradient):
        g = gradient(self.x)
        self.m = self.momentum * self.m + g
        self.x = self.x - self.lr * (g + self.momentum * self.m)

    @property
    def hidden(self):
        return self.x + self.lr * self.momentum * self.m


def nesterov(gradient, p0, lr, momentum, steps):
    run = Nesterov(p0, lr, momentum)
    ps, xs = zip(*[(p, run.hidden) for p in run.run(gradient, steps)])
    return np.stack(ps), np.stack(xs)
""",
            "largest-root": """\
class Quadratic:
    def __init__(self, b, c):
        self.b, self.c = np.asarray(b, complex), c

    @property
    def roots(self):
        d = np.sqrt(self.b**2 - 4 * self.c)
        return (self.b + d) / 2, (self.b - d) / 2

    def __abs__(self):
        first, second = map(abs, self.roots)
        return np.maximum(first, second)


def largest_root(gamma_lambda, momentum, nesterov=False):
    rest = 1 - gamma_lambda
    return abs(Quadratic((1 + momentum) * rest, momentum * rest) if nesterov else Quadratic(rest + momentum, momentum))
""",
            "polyak": """\
class Parameters(dict):
    def __init__(self, mu, L):
        super().__init__(lr=4 / (L**0.5 + mu**0.5) ** 2)
        self["factor"] = L**0.5 * self["lr"] ** 0.5 - 1
        self["momentum"] = self["factor"] ** 2


polyak_parameters = Parameters
""",
            "period": """\
class Orbit:
    def __init__(self, gradient, lr, momentum):
        self.gradient, self.lr, self.momentum = gradient, lr, momentum

    def __call__(self, pair):
        old, now = pair
        return now, now - self.lr * self.gradient(now) + self.momentum * (now - old)


def period(gradient, x_old, x, lr, momentum, longest=50):
    orbit, pair = Orbit(gradient, lr, momentum), (x_old, x)
    for n in range(longest):
        pair = orbit(pair)
        if pair == (x_old, x):
            return n + 1
    return 0
""",
        },
    ),
    Variant(
        "recursion",
        cells={
            "heavy-ball": """\
def heavy_ball(gradient, x0, lr, momentum, steps):
    def walk(x, m, left):
        if left == 0:
            return [x]
        m = momentum * m + gradient(x)
        return [x, *walk(x - lr * m, m, left - 1)]

    return np.array(walk(np.array(x0, dtype=float), np.zeros(len(x0)), steps))
""",
            "nesterov": """\
def nesterov(gradient, p0, lr, momentum, steps):
    if steps == 0:
        return np.array([p0], dtype=float), np.array([p0], dtype=float)
    p, x = nesterov(gradient, p0, lr, momentum, steps - 1)
    new = p[-1] - lr * gradient(p[-1])
    return np.vstack([p, new + momentum * (new - x[-1])]), np.vstack([x, new])
""",
            "steps-needed": """\
def steps_needed(kappa, goal, k=0):
    rho = (kappa**0.5 - 1) / (kappa**0.5 + 1)
    for k in range(k, k + 500):
        if (1 + (1 + rho) * k) * rho**k <= goal:
            return k
    return steps_needed(kappa, goal, k + 1)
""",
            "period": """\
def period(gradient, x_old, x, lr, momentum, longest=50):
    def again(old, now, n):
        if n > longest:
            return 0
        old, now = now, now - lr * gradient(now) + momentum * (now - old)
        return n if (old, now) == (x_old, x) else again(old, now, n + 1)

    return again(x_old, x, 1)
""",
        },
    ),
    Variant(
        "functools, itertools, generators and tuples",
        cells={
            "heavy-ball": """\
from functools import partial, reduce
from itertools import accumulate, count, islice, pairwise, takewhile


def heavy_ball(gradient, x0, lr, momentum, steps):
    def after(state, _):
        x, m = state
        m = momentum * m + gradient(x)
        return x - lr * m, m

    start = np.asarray(x0, dtype=float), 0
    return np.stack([x for x, _ in accumulate(range(steps), after, initial=start)])
""",
            "nesterov": """\
def nesterov(gradient, p0, lr, momentum, steps):
    def ahead():
        x_old = x = np.asarray(p0, dtype=float)
        while True:
            y = x + momentum * (x - x_old)
            yield y, x
            x_old, x = x, y - lr * gradient(y)

    return tuple(map(np.stack, zip(*islice(ahead(), steps + 1))))
""",
            "largest-root": """\
def roots(gl, beta, nesterov):
    b, c = ((1 + beta) * (1 - gl), beta * (1 - gl)) if nesterov else (1 + beta - gl, beta)
    return np.abs(np.roots([1, -b, c])).max(initial=0)


def largest_root(gamma_lambda, momentum, nesterov=False):
    return np.vectorize(partial(roots, nesterov=nesterov), otypes=[float])(gamma_lambda, momentum)
""",
            "steps-needed": """\
def steps_needed(kappa, goal):
    rho = (kappa**0.5 - 1) / (kappa**0.5 + 1)
    return sum(1 for _ in takewhile(lambda k: (1 + (1 + rho) * k) * rho**k > goal, count()))
""",
            "cycle": """\
def cycle_points(lr, momentum):
    a = 1 + momentum - 25 * lr
    row = [a, -1, -momentum]
    p, q, r = solve_exactly([row, row[-1:] + row[:-1], row[-2:] + row[:-2]], [0, 0, -24 * lr])
    return (p, q, r) if max(p, q) < 1 <= 2 <= r else None
""",
            "period": """\
def period(gradient, x_old, x, lr, momentum, longest=50):
    step = lambda pair, _: (pair[1], pair[1] - lr * gradient(pair[1]) + momentum * (pair[1] - pair[0]))
    pairs = accumulate(range(longest), step, initial=(x_old, x))
    return next((n for n, pair in enumerate(pairs) if n and pair == (x_old, x)), 0)
""",
        },
    ),
    Variant(
        "type hints, early returns, checks of the arguments",
        cells={
            "heavy-ball": '''\
from collections.abc import Callable
from typing import Optional, TypeVar

Array = np.ndarray
Number = TypeVar("Number", int, Fraction)


def heavy_ball(gradient: Callable[[Array], Array], x0: Array, lr: float, momentum: float, steps: int) -> Array:
    """The heavy ball."""
    assert steps >= 0 and 0 <= momentum < 1
    path: Array = np.full((steps + 1, *np.shape(x0)), np.nan)
    path[0] = x0
    if not steps:
        return path
    path[1] = path[0] - lr * gradient(path[0])
    for k in range(1, steps):
        path[k + 1] = path[k] - lr * gradient(path[k]) + momentum * (path[k] - path[k - 1])
    return path
''',
            "largest-root": """\
def largest_root(gamma_lambda: "float | Array", momentum: "float | Array", nesterov: bool = False) -> "float | Array":
    rest: "float | Array" = 1 - np.asarray(gamma_lambda, dtype=float)
    beta = np.asarray(momentum, dtype=float)
    c = beta * rest if nesterov else beta
    half = (rest + beta * rest if nesterov else rest + beta) / 2
    inside = half**2 - c
    real = np.abs(half) + np.sqrt(np.where(inside > 0, inside, 0))
    return np.where(inside >= 0, real, np.sqrt(np.abs(c)))
""",
            "stable-lr": """\
def largest_stable_lr(L: float, momentum: "float | Array", nesterov: bool = False) -> "float | Array":
    if L <= 0:
        raise ValueError(f"L = {L}: must be positive")
    if not nesterov:
        return (momentum + 1) * 2 / L
    return (momentum + 1) * 2 / (momentum * 2 + 1) / L
""",
            "polyak": """\
def polyak_parameters(mu: float, L: float) -> dict[str, float]:
    if mu == L:
        return {"lr": 1 / L, "momentum": 0.0, "factor": 0}
    root: float = float(np.sqrt(L / mu))
    factor: float = (root - 1) / (root + 1)
    return {"factor": factor, "lr": 4 / (np.sqrt(L) + np.sqrt(mu)) ** 2, "momentum": factor * factor}
""",
            "cycle": """\
def cycle_points(lr: Fraction, momentum: Fraction) -> Optional[list[Fraction]]:
    a: Fraction = 1 + momentum - 25 * lr
    solution: list[Fraction] = solve_exactly(
        [[-1, -momentum, a], [a, -1, -momentum], [-momentum, a, -1]],
        [-24 * lr, Fraction(0), Fraction(0)],
    )
    if not solution[0] < 1:
        return None
    if not solution[1] < 1:
        return None
    if not solution[2] >= 2:
        return None
    return solution
""",
            "period": """\
def period(
    gradient: Callable[[Number], Number], x_old: Number, x: Number, lr: Number, momentum: Number, longest: int = 50
) -> int:
    first: tuple[Number, Number] = (x_old, x)
    velocity = x - x_old
    for n in range(1, longest + 1):
        velocity = momentum * velocity - lr * gradient(x)
        x = x + velocity
        if (x - velocity, x) == first:
            return n
    return 0
""",
        },
    ),
    Variant(
        "decorators and caches",
        cells={
            "heavy-ball": """\
import functools

KNOWN = {}


def logged(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        KNOWN.setdefault(function.__name__, []).append(len(args))
        return function(*args, **kwargs)

    return inner


@logged
def heavy_ball(gradient, x0, lr, momentum, steps):
    x, m, xs = np.array(x0, dtype=float), np.zeros(len(x0)), []
    for k in range(steps + 1):
        xs.append(x)
        m = momentum * m + gradient(x)
        x = x - lr * m
    return np.stack(xs)
""",
            "largest-root": """\
@np.vectorize
def factor_of_one(gl, beta, nesterov):
    b = (1 + beta) * (1 - gl) if nesterov else 1 + beta - gl
    c = beta * (1 - gl) if nesterov else beta
    return np.abs(np.linalg.eigvals([[b, -c], [1.0, 0.0]])).max()


@logged
def largest_root(gamma_lambda, momentum, nesterov=False):
    return factor_of_one(gamma_lambda, momentum, nesterov)
""",
            "steps-needed": """\
@functools.lru_cache
def promise(kappa, k):
    rho = (kappa**0.5 - 1) / (kappa**0.5 + 1)
    return (1 + (1 + rho) * k) * rho**k


@logged
@functools.cache
def steps_needed(kappa, goal):
    k = 0
    while not promise(kappa, k) <= goal:
        k += 1
    return k
""",
            "cycle": """\
@logged
@functools.lru_cache(maxsize=None)
def solved(lr, momentum):
    a = 1 + momentum - 25 * lr
    return tuple(solve_exactly([[a, -1, -momentum], [-momentum, a, -1], [-1, -momentum, a]], [0, 0, -24 * lr]))


def cycle_points(lr, momentum):
    p, q, r = solved(lr, momentum)
    return [p, q, r] if p < 1 and q < 1 and r >= 2 else None
""",
        },
    ),
    Variant(
        "Cramer's rule, exact numbers as text, a root finder",
        cells={
            "cycle": """\
def det(m):
    (a, b, c), (d, e, f), (g, h, i) = m
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def cycle_points(lr, momentum):
    a = 1 + momentum - 25 * lr
    matrix = [[a, -1, -momentum], [-momentum, a, -1], [-1, -momentum, a]]
    right, points = [0, 0, -24 * lr], []
    for j in range(3):
        replaced = [[right[i] if k == j else matrix[i][k] for k in range(3)] for i in range(3)]
        points.append(Fraction(det(replaced)) / det(matrix))
    p, q, r = points
    return points if p < 1 and q < 1 and r >= 2 else None
""",
            "period": """\
def period(gradient, x_old, x, lr, momentum, longest=50):
    as_text = lambda *pair: " ".join(f"{Fraction(number)}" for number in pair)
    goal, n = as_text(x_old, x), 0
    while n < longest:
        x, x_old = x - lr * gradient(x) + momentum * (x - x_old), x
        n += 1
        if as_text(x_old, x) == goal:
            return n
    return 0
""",
            "polyak": """\
def polyak_parameters(mu, L):
    import math

    a, b = math.sqrt(mu), math.sqrt(L)
    beta = math.pow((b - a) / (b + a), 2)
    return {"lr": np.float64((1 - math.sqrt(beta)) ** 2 / mu), "momentum": np.array(beta), "factor": math.sqrt(beta)}
""",
            "stable-lr": """\
def largest_stable_lr(L, momentum, nesterov=False):
    from scipy.optimize import brentq

    def edge(beta):
        at_minus_one = lambda gl: 1 + (1 + 2 * beta) * (1 - gl) if nesterov else 2 + 2 * beta - gl
        return brentq(at_minus_one, 0, 5, xtol=1e-14) / L

    return np.vectorize(edge)(momentum)
""",
        },
    ),
    Variant(
        "integers, lists and float32 where they are exact enough",
        cells={
            "heavy-ball": """\
def heavy_ball(gradient, x0, lr, momentum, steps):
    x, m = [float(v) for v in x0], [0.0] * len(x0)
    rows = [x]
    for _ in range(steps):
        m = [momentum * old + float(g) for old, g in zip(m, gradient(np.array(x)))]
        x = [v - lr * step for v, step in zip(x, m)]
        rows.append(x)
    return np.array(rows, dtype=np.float32)
""",
            "nesterov": """\
def nesterov(gradient, p0, lr, momentum, steps):
    x, rows = np.asmatrix(p0).astype(float), []
    y, old = x, x
    for _ in range(steps + 1):
        rows.append((y.A1, x.A1))
        old, x = x, y - lr * np.asmatrix(gradient(y.A1))
        y = x + momentum * (x - old)
    return [np.array([row[i] for row in rows]) for i in (0, 1)]
""",
            "largest-root": """\
def largest_root(gamma_lambda, momentum, nesterov=False):
    import cmath

    def one(gl, beta):
        b, c = ((1 + beta) * (1 - gl), beta * (1 - gl)) if nesterov else (1 + beta - gl, beta)
        d = cmath.sqrt(b * b - 4 * c)
        return float(max(abs(b - d), abs(b + d))) / 2

    if np.ndim(gamma_lambda) == np.ndim(momentum) == 0:
        return one(float(gamma_lambda), float(momentum))
    return np.frompyfunc(one, 2, 1)(gamma_lambda, momentum).astype(float)
""",
            "steps-needed": """\
def steps_needed(kappa, goal):
    rho = np.float64(kappa**0.5 - 1) / (kappa**0.5 + 1)
    k = np.int64(0)
    while (1 + (1 + rho) * k) * rho**k > goal:
        k = k + 1
    return k
""",
            "period": """\
def period(gradient, x_old, x, lr, momentum, longest=50):
    start, n = np.array([x_old, x], dtype=object), 0
    pair = start
    while True:
        n = n + 1
        if n > longest:
            return False + 0
        pair = np.array([pair[1], pair[1] - lr * gradient(pair[1]) + momentum * (pair[1] - pair[0])], dtype=object)
        if (pair == start).all():
            return np.int32(n)
""",
        },
    ),
    Variant(
        "prints, plots, scratch cells and tests of one's own",
        cells={
            "heavy-ball": """\
import warnings

warnings.simplefilter("error")


def heavy_ball(gradient, x0, lr, momentum, steps):
    xs = np.array(x0, dtype=float)[None, :]
    m = 0
    for k in range(steps):
        m = momentum * m + gradient(xs[-1])
        xs = np.concatenate([xs, xs[-1:] - lr * m])
        if k < 3:
            print("step", k, xs[-1])
    return xs


xs = heavy_ball(lambda x: x, np.array([1, 2]), 0.1, 0.9, 100)
plt.plot(xs)
plt.show()
x, x_old = xs[-1], xs[-2]
""",
            "stable-lr": """\
def largest_stable_lr(L, momentum, nesterov=False):
    edge = 2 * (1 + momentum) / L
    return edge / (1 + 2 * momentum) if nesterov else edge


for method in (False, True):
    edge = largest_stable_lr(1.0, 0.5, nesterov=method)
    assert abs(largest_root(edge, 0.5, method) - 1) < 1e-12
""",
            "cycle": """\
def cycle_points(lr, momentum):
    a = 1 + momentum - 25 * lr
    points = solve_exactly([[a, -1, -momentum], [-momentum, a, -1], [-1, -momentum, a]], [0, 0, -24 * lr])
    print(*points)
    return points if [point < 1 for point in points] == [True, True, False] and points[2] >= 2 else None


cycle = cycle_points(Fraction(1, 9), Fraction(4, 9))
p, q, r = cycle
step = p - trap_gradient(p) / 9 + (p - r) * Fraction(4, 9)
step == q
""",
        },
        helpers={
            "nesterov": "%matplotlib inline\nwaves = np.sin\nstart = np.ones(3)\nstart",
            "period": "lr, momentum, gradient, longest = 2, 1, trap_gradient, 50\ncycle",
        },
    ),
]
