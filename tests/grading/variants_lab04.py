"""Correct solutions of lab 04 in other styles; each keeps every point."""

from grading_cases import Variant

VARIANTS = [
    Variant(
        "loops over entries, in arrays made like the input",
        cells={
            "adagrad": """\
def adagrad_step(x, g, v, lr, eps=1e-10):
    new_x, new_v = np.empty_like(x), np.empty_like(v)
    for i in np.ndindex(x.shape):
        new_v[i] = v[i] + g[i] ** 2
        new_x[i] = x[i] - lr * g[i] / (math.sqrt(new_v[i]) + eps)
    return new_x, new_v
""",
            "rmsprop": """\
def rmsprop_step(x, g, v, lr, beta=0.99, eps=1e-8):
    xs, vs = [], []
    for xi, gi, vi in zip(x.ravel(), g.ravel(), v.ravel()):
        vi = beta * vi + (1 - beta) * gi**2
        vs.append(vi)
        xs.append(xi - lr * gi / (vi**0.5 + eps))
    return np.array(xs).reshape(x.shape), np.array(vs).reshape(x.shape)
""",
            "adam": """\
def adam_step(x, g, state, lr, betas=(0.9, 0.999), eps=1e-8):
    t = state["t"] + 1
    m, v, out = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        m[i] = betas[0] * state["m"][i] + (1 - betas[0]) * g[i]
        v[i] = betas[1] * state["v"][i] + (1 - betas[1]) * g[i] * g[i]
        out[i] = x[i] - lr * (m[i] / (1 - betas[0] ** t)) / ((v[i] / (1 - betas[1] ** t)) ** 0.5 + eps)
    return out, {"t": t, "m": m, "v": v}
""",
            "gain": """\
def uncorrected_gain(betas, steps):
    gains = np.zeros(steps)
    m = v = 0.0
    for i in range(steps):
        m = betas[0] * m + (1 - betas[0])
        v = betas[1] * v + (1 - betas[1])
        gains[i] = m / v**0.5
    return gains
""",
            "longest-step": """\
def longest_step(betas, steps):
    best, when = -1.0, 0
    for t, value in enumerate(uncorrected_gain(betas, steps), start=1):
        if value > best:
            best, when = value, t
    return when, best
""",
            "limits": """\
def penalty_limit(curvature, center, weight_decay):
    result = []
    for a, c in zip(curvature, center):
        result.append(a * c / (a + weight_decay))
    return np.array(result)


def adamw_limit(center, weight_decay):
    result = []
    for c in center:
        if weight_decay > 0 and abs(c) > 1 / weight_decay:
            result.append(1 / weight_decay if c > 0 else -1 / weight_decay)
        else:
            result.append(c)
    return np.array(result)
""",
        },
    ),
    Variant(
        "torch inside, arrays come back",
        cells={
            "adagrad": """\
import torch


def adagrad_step(x, g, v, lr, eps=1e-10):
    x, g, v = (torch.tensor(a) for a in (x, g, v))
    v = v.addcmul(g, g)
    return x.addcdiv(g, v.sqrt() + eps, value=-lr).numpy(), v.numpy()
""",
            "rmsprop": """\
def rmsprop_step(x, g, v, lr, beta=0.99, eps=1e-8):
    p = torch.tensor(x, requires_grad=True)
    p.grad = torch.tensor(g)
    optimizer = torch.optim.RMSprop([p], lr=lr, alpha=beta, eps=eps)
    optimizer.state[p] = {"step": torch.tensor(0.0), "square_avg": torch.tensor(v)}
    optimizer.step()
    return p.detach().numpy(), optimizer.state[p]["square_avg"].numpy()
""",
            "adam": """\
def adam_step(x, g, state, lr, betas=(0.9, 0.999), eps=1e-8):
    p = torch.nn.Parameter(torch.from_numpy(x.copy()))
    p.grad = torch.from_numpy(g.copy())
    optimizer = torch.optim.Adam([p], lr=lr, betas=betas, eps=eps)
    mine = optimizer.state[p]
    mine["step"] = torch.tensor(float(state["t"]))
    mine["exp_avg"], mine["exp_avg_sq"] = torch.from_numpy(state["m"].copy()), torch.from_numpy(state["v"].copy())
    optimizer.step()
    return p.detach().numpy(), {"t": state["t"] + 1, "m": mine["exp_avg"].numpy(), "v": mine["exp_avg_sq"].numpy()}
""",
            "play": """\
def play(C, rounds, lr, amsgrad=False):
    beta2 = torch.tensor(1 / (1 + C**2), dtype=torch.float64)
    x, v, top = torch.ones(()).double(), torch.zeros(()).double(), torch.zeros(()).double()
    regret = torch.zeros(()).double()
    for t in range(1, rounds + 1):
        g = torch.tensor(C if t % 3 == 1 else -1.0).double()
        regret = regret + g * (x + 1)
        v = torch.lerp(g**2, v, beta2)
        top = torch.maximum(top, v)
        x = (x - lr / t**0.5 * g * (top if amsgrad else v).rsqrt()).clamp(-1, 1)
    return x.item(), regret.item() / rounds
""",
            "limits": """\
def penalty_limit(curvature, center, weight_decay):
    H = torch.diag(torch.from_numpy(curvature + weight_decay))
    return torch.linalg.solve(H, torch.from_numpy(curvature * center)).numpy()


def adamw_limit(center, weight_decay):
    bound = 1 / weight_decay if weight_decay else float("inf")
    return torch.tensor(center).clamp(-bound, bound).numpy()
""",
        },
    ),
    Variant(
        "in place on copies",
        cells={
            "adagrad": """\
def adagrad_step(x, g, v, lr, eps=1e-10):
    x, v = x.copy(), v.copy()
    v += g**2
    root = np.sqrt(v)
    root += eps
    x -= lr * g / root
    return x, v
""",
            "rmsprop": """\
def rmsprop_step(x, g, v, lr, beta=0.99, eps=1e-8):
    v = np.array(v)
    v *= beta
    v += (1 - beta) * g**2
    x = np.array(x)
    x -= lr * g / (v**0.5 + eps)
    return x, v
""",
            "adam": """\
import copy


def adam_step(x, g, state, lr, betas=(0.9, 0.999), eps=1e-8):
    state = copy.deepcopy(state)
    state["t"] += 1
    state["m"] *= betas[0]
    state["m"] += (1 - betas[0]) * g
    state["v"] *= betas[1]
    state["v"] += (1 - betas[1]) * g**2
    denominator = np.sqrt(state["v"] / (1 - betas[1] ** state["t"]))
    denominator += eps
    x = x.copy()
    x -= lr * state["m"] / (1 - betas[0] ** state["t"]) / denominator
    return x, state
""",
            "weight-decay": """\
def penalty_step(x, g, direction, lr, weight_decay):
    g = g.copy()
    g += weight_decay * x
    x = x.copy()
    x -= lr * direction(g)
    return x


def decay_step(x, g, direction, lr, weight_decay):
    x = x.copy()
    x *= 1 - lr * weight_decay
    x -= lr * direction(g)
    return x
""",
            "limits": """\
def penalty_limit(curvature, center, weight_decay):
    end = center.copy()
    end *= curvature
    end /= curvature + weight_decay
    return end


def adamw_limit(center, weight_decay):
    end = center.copy()
    if weight_decay > 0:
        end[end > 1 / weight_decay] = 1 / weight_decay
        end[end < -1 / weight_decay] = -1 / weight_decay
    return end
""",
        },
    ),
    Variant(
        "helpers with the names that tests like",
        cells={
            "adagrad": """\
def adagrad_step(x, g, v, lr, eps=1e-10):
    v = v + square(g)
    return step(x, g, v, lr, eps), v
""",
            "rmsprop": """\
def rmsprop_step(x, g, v, lr, beta=0.99, eps=1e-8):
    v = average(v, square(g), beta)
    return step(x, g, v, lr, eps), v
""",
            "steps-to-forget": """\
t = 0


def steps_to_forget(beta, ratio):
    global t
    t = 0
    while beta**t * ratio > 1:
        t += 1
    return t
""",
            "adam": """\
def adam_step(x, g, state, lr, betas=(0.9, 0.999), eps=1e-8):
    state = fresh(state, g, betas)
    hat = {key: state[key] / (1 - beta ** state["t"]) for key, beta in zip(("m", "v"), betas)}
    return step(x, hat["m"], hat["v"], lr, eps), state
""",
            "gain": """\
def uncorrected_gain(betas, steps):
    return np.array([seen(betas, n) for n in range(1, steps + 1)])
""",
            "longest-step": """\
def longest_step(betas, steps):
    gains = uncorrected_gain(betas, steps)
    t = int(np.argmax(gains))
    return t + 1, gains[t]
""",
            "weight-decay": """\
def penalty_step(x, g, direction, lr, weight_decay):
    return walk(x, direction(part(x, g, weight_decay)), lr)


def decay_step(x, g, direction, lr, weight_decay):
    return walk(x, direction(g), lr) - lr * weight_decay * x
""",
            "limits": """\
def penalty_limit(curvature, center, weight_decay):
    return slope(curvature, weight_decay) * center


def adamw_limit(center, weight_decay):
    return center if weight_decay == 0 else np.sign(center) * start(np.abs(center), weight_decay)
""",
        },
        helpers={
            "adagrad": """\
square = lambda g: g * g


def step(x, direction, v, lr, eps):
    return x - lr * direction / (np.sqrt(v) + eps)


def average(old, new, beta):
    return beta * old + (1 - beta) * new


def seen(betas, n):
    return (1 - betas[0] ** n) * (1 - betas[1] ** n) ** -0.5
""",
            "adam": """\
def fresh(old, g, betas):
    return {
        "t": old["t"] + 1,
        "m": average(old["m"], g, betas[0]),
        "v": average(old["v"], square(g), betas[1]),
    }
""",
            "weight-decay": """\
def walk(x, d, lr):
    return x - lr * d


def part(x, g, w):
    return g + w * x


def slope(a, w):
    return a / (a + w)


def start(size, w):
    return np.minimum(size, 1 / w)
""",
        },
    ),
    Variant(
        "own names for what Python calls otherwise",
        cells={
            "adagrad": """\
sum = 0
str = "AdaGrad"
list = [1, 2, 3]


def adagrad_step(x, g, v, lr, eps=1e-10):
    sum = v + g**2
    return x - lr / (sum**0.5 + eps) * g, sum
""",
            "longest-step": """\
max = 0


def longest_step(betas, steps):
    max, when = 0.0, 1
    for t, size in zip(range(1, steps + 1), uncorrected_gain(betas, steps)):
        if size > max:
            max, when = size, t
    return when, max
""",
            "play": """\
min, max = -1, 1
id = "game"
sum = 0


def play(C, rounds, lr, amsgrad=False):
    next, v, largest, sum = max, 0.0, 0.0, 0.0
    for round in range(rounds):
        slope = C if round % 3 == 0 else -1
        sum += slope * (next - min)
        v = v / (1 + C * C) + slope**2 * (1 - 1 / (1 + C * C))
        largest = v if not amsgrad or v > largest else largest
        next -= lr * (round + 1) ** -0.5 * slope * largest**-0.5
        if next > max:
            next = max
        elif next < min:
            next = min
    return next, sum / rounds
""",
        },
    ),
    Variant(
        "classes that are called",
        cells={
            "rmsprop": """\
class RMSProp:
    def __init__(self, divide):
        self.divide = divide

    def __call__(self, x, g, v, lr, beta=0.99, eps=1e-8):
        v = v - (1 - beta) * (v - g**2)
        return x - lr * self.divide(g, v, eps), v


rmsprop_step = RMSProp(lambda g, v, eps: g / (np.sqrt(v) + eps))
""",
            "adam": """\
class Average:
    def __init__(self, beta):
        self.beta = beta

    def __call__(self, old, new, t):
        now = self.beta * old + (1 - self.beta) * new
        return now, now / (1 - self.beta**t)


class Adam:
    def __call__(self, x, g, state, lr, betas=(0.9, 0.999), eps=1e-8):
        t = state["t"] + 1
        m, m_hat = Average(betas[0])(state["m"], g, t)
        v, v_hat = Average(betas[1])(state["v"], np.square(g), t)
        return x - lr * m_hat / (np.sqrt(v_hat) + eps), dict(t=t, m=m, v=v, step=x)


adam_step = Adam()
""",
            "play": """\
class Player:
    def __init__(self, C, lr, amsgrad):
        self.beta, self.lr, self.amsgrad = 1 / (1 + C**2), lr, amsgrad
        self.x, self.v, self.top, self.t = 1.0, 0.0, 0.0, 0

    def move(self, g):
        self.t += 1
        self.v += (1 - self.beta) * (g * g - self.v)
        self.top = max(self.top, self.v)
        scale = self.top if self.amsgrad else self.v
        self.x = float(np.clip(self.x - self.lr / math.sqrt(self.t) * g / math.sqrt(scale), -1, 1))


def play(C, rounds, lr, amsgrad=False):
    player, costs = Player(C, lr, amsgrad), []
    for t in range(1, rounds + 1):
        slope = float(C) if t % 3 == 1 else -1.0
        costs.append(slope * (player.x - -1))
        player.move(slope)
    return player.x, np.mean(costs)
""",
        },
    ),
    Variant(
        "functools: partial, reduce, caches",
        cells={
            "adagrad": """\
import functools


def divided(past, x, g, v, lr, eps=1e-10):
    v = past(v, g)
    return x - lr * g / (np.sqrt(v) + eps), v


adagrad_step = functools.partial(divided, lambda v, g: v + g * g)
""",
            "steps-to-forget": """\
@functools.lru_cache(maxsize=None)
def steps_to_forget(beta, ratio):
    return next(t for t in range(10**7) if beta**t * ratio <= 1)
""",
            "gain": """\
_gains = {}


def uncorrected_gain(betas, steps):
    key = (tuple(betas), steps)
    if key not in _gains:
        t = np.arange(1.0, steps + 1)
        _gains[key] = (1 - betas[0] ** t) / (1 - betas[1] ** t) ** 0.5
    return _gains[key]
""",
            "longest-step": """\
def longest_step(betas, steps):
    gains = uncorrected_gain(betas, steps)
    return max(zip(range(1, steps + 1), gains), key=lambda pair: pair[1])
""",
            "play": """\
from functools import reduce


def play(C, rounds, lr, amsgrad=False):
    b = 1 / (1 + C * C)

    def one_round(now, t):
        x, v, top, paid = now
        g = [-1, C, -1][t % 3]
        paid, v = paid + g * (x + 1), b * v + (1 - b) * g * g
        top = max(top, v) if amsgrad else v
        return min(max(x - lr * g / (t * top) ** 0.5, -1.0), 1.0), v, top, paid

    x, _, _, paid = reduce(one_round, range(1, rounds + 1), (1.0, 0.0, 0.0, 0.0))
    return x, paid / rounds
""",
        },
    ),
    Variant(
        "type hints, keywords and long names",
        cells={
            "adagrad": '''\
from typing import Tuple

Array = np.ndarray


def adagrad_step(x: Array, g: Array, v: Array, lr: float, eps: float = 1e-10) -> Tuple[Array, Array]:
    """AdaGrad, with the sum updated first."""
    sum_of_squares: Array = np.add(v, np.square(g))
    rates: Array = np.divide(lr, np.sqrt(sum_of_squares) + eps)
    return np.subtract(x, np.multiply(rates, g)), sum_of_squares
''',
            "adam": """\
from typing import Any, Dict


def adam_step(
    x: np.ndarray, g: np.ndarray, state: Dict[str, Any], lr: float, betas: tuple = (0.9, 0.999), eps: float = 1e-8
) -> tuple:
    assert x.shape == g.shape
    beta1, beta2 = betas
    number_of_steps: int = state["t"] + 1
    first_moment = beta1 * state["m"] + (1.0 - beta1) * g
    second_moment = beta2 * state["v"] + (1.0 - beta2) * np.power(g, 2)
    corrected_first = first_moment / (1.0 - beta1**number_of_steps)
    corrected_second = second_moment / (1.0 - beta2**number_of_steps)
    new_state: Dict[str, Any] = dict(state)
    new_state.update(t=number_of_steps, m=first_moment, v=second_moment)
    return x - lr * corrected_first / (np.sqrt(corrected_second) + eps), new_state
""",
            "weight-decay": """\
from typing import Callable


def penalty_step(x: np.ndarray, g: np.ndarray, direction: Callable, lr: float, weight_decay: float) -> np.ndarray:
    gradient_of_penalty = weight_decay * x
    return x - lr * direction(g + gradient_of_penalty)


def decay_step(x: np.ndarray, g: np.ndarray, direction: Callable, lr: float, weight_decay: float) -> np.ndarray:
    shrunk = (1 - lr * weight_decay) * x
    return shrunk - lr * direction(g)
""",
        },
    ),
    Variant(
        "the corrections moved into the rate",
        cells={
            "adam": """\
def adam_step(x, g, state, lr, betas=(0.9, 0.999), eps=1e-8):
    b1, b2 = betas
    m = state["m"] + (1 - b1) * (g - state["m"])
    v = state["v"] + (1 - b2) * (g * g - state["v"])
    t = state["t"] + 1
    c1, c2 = 1 - b1**t, math.sqrt(1 - b2**t)
    return x - (lr * c2 / c1) * m / (np.sqrt(v) + eps * c2), {"v": v, "m": m, "t": t}
""",
            "gain": """\
def uncorrected_gain(betas, steps):
    t = np.linspace(1, steps, steps)
    beta1, beta2 = betas
    m = -np.expm1(t * np.log(beta1)) if beta1 else np.ones(steps)
    v = -np.expm1(t * np.log(beta2)) if beta2 else np.ones(steps)
    return m * v**-0.5
""",
            "steps-to-forget": """\
def steps_to_forget(beta, ratio):
    t = 0
    left = ratio
    while left > 1:
        left = left * beta
        t = t + 1
    return t
""",
            "rmsprop": """\
def rmsprop_step(x, g, v, lr, beta=0.99, eps=1e-8):
    average = np.average([v, g**2], axis=0, weights=[beta, 1 - beta])
    return x - np.divide(lr * g, np.hypot(0, np.sqrt(average)) + eps), average
""",
        },
    ),
    Variant(
        "recursion and lists of everything so far",
        cells={
            "steps-to-forget": """\
def steps_to_forget(beta, ratio):
    def search(low, high):
        if low == high:
            return low
        middle = (low + high) // 2
        return search(low, middle) if beta**middle * ratio <= 1 else search(middle + 1, high)

    return search(0, 2**30)
""",
            "gain": """\
def uncorrected_gain(betas, steps):
    if steps == 0:
        return np.array([])
    last = (1 - betas[0] ** steps) / np.sqrt(1 - betas[1] ** steps)
    return np.append(uncorrected_gain(betas, steps - 1), last) if steps < 500 else whole(betas, steps)


def whole(betas, steps):
    return np.array([(1 - betas[0] ** t) / np.sqrt(1 - betas[1] ** t) for t in range(1, steps + 1)])
""",
            "play": """\
def play(C, rounds, lr, amsgrad=False):
    xs, vs, paid = [1.0], [0.0], []
    for t in range(1, rounds + 1):
        g = C if t % 3 == 1 else -1
        paid.append(g * (xs[-1] + 1))
        vs.append((vs[-1] + C**2 * g**2) / (1 + C**2))
        under = max(vs) if amsgrad else vs[-1]
        xs.append(sorted([-1.0, xs[-1] - lr * g / math.sqrt(t * under), 1.0])[1])
    return xs[-1], sum(paid) / len(paid)
""",
        },
    ),
    Variant(
        "lists and arrays where the docstring has tuples",
        cells={
            "adagrad": """\
def adagrad_step(x, g, v, lr, eps=1e-10):
    v_new = v + g * g
    x_new = x - lr * (g / (v_new**0.5 + eps))
    return [x_new, v_new]
""",
            "rmsprop": """\
def rmsprop_step(x, g, v, lr, beta=0.99, eps=1e-8):
    return np.stack(
        [
            x - lr * g / (np.sqrt(beta * v + (1 - beta) * g**2) + eps),
            beta * v + (1 - beta) * g**2,
        ]
    )
""",
            "longest-step": """\
def longest_step(betas, steps):
    gains = uncorrected_gain(betas, steps).tolist()
    return [gains.index(max(gains)) + 1, max(gains)]
""",
            "play": """\
def play(C, rounds, lr, amsgrad=False):
    t = np.arange(1, rounds + 1)
    slopes = np.where(t % 3 == 1, C, -1.0)
    beta2, v, divisors = 1 / (1 + C**2), 0.0, np.empty(rounds)
    for i, s in enumerate(slopes):
        v = beta2 * v + (1 - beta2) * s**2
        divisors[i] = v
    if amsgrad:
        divisors = np.maximum.accumulate(divisors)
    moves = lr * slopes / np.sqrt(t * divisors)
    points = np.ones(rounds + 1)
    for i in range(rounds):
        points[i + 1] = np.clip(points[i] - moves[i], -1, 1)
    return np.array([points[-1], slopes @ (points[:-1] + 1) / rounds])
""",
        },
    ),
    Variant(
        "formulas with where, sign and errstate",
        cells={
            "adagrad": """\
def adagrad_step(x, g, v, lr, eps=1e-10):
    v = v + np.abs(g) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        move = np.where(g == 0, 0, lr * g / (np.sqrt(v) + eps))
    return (x - move).astype(x.dtype), v
""",
            "weight-decay": """\
def penalty_step(x, g, direction, lr, weight_decay):
    total = np.sum([g, weight_decay * x], axis=0)
    return x + -lr * direction(total)


def decay_step(x, g, direction, lr, weight_decay):
    return x - lr * (direction(g) + weight_decay * x)
""",
            "limits": """\
def penalty_limit(curvature, center, weight_decay):
    return center / (1 + weight_decay / curvature)


def adamw_limit(center, weight_decay):
    with np.errstate(divide="ignore"):
        bound = np.float64(1) / np.float64(weight_decay)
    return np.where(np.abs(center) <= bound, center, np.sign(center) * bound)
""",
        },
    ),
    Variant(
        "decorators and a log of every call",
        cells={
            "adagrad": """\
log = []


def logged(function):
    def wrapper(*args, **kwargs):
        log.append(function.__name__)
        return function(*args, **kwargs)

    return wrapper


@logged
def adagrad_step(x, g, v, lr, eps=1e-10):
    return x - lr * g / (np.sqrt(v + g**2) + eps), v + g**2
""",
            "rmsprop": """\
@logged
def rmsprop_step(x, g, v, lr, beta=0.99, eps=1e-8):
    v = beta * v + (1 - beta) * g**2
    print("largest average:", v.max())
    return x - lr * g / (np.sqrt(v) + eps), v
""",
            "gain": """\
@logged
def uncorrected_gain(betas, steps):
    powers = np.array(betas, dtype=float)[:, None] ** np.arange(1, steps + 1)
    m, v = 1 - powers
    return m / np.sqrt(v)
""",
            "weight-decay": """\
@logged
def penalty_step(x, g, direction, lr, weight_decay):
    penalized = g + weight_decay * x
    d = direction(penalized)
    log.append(d)
    return x - lr * d


@logged
def decay_step(x, g, direction, lr, weight_decay):
    d = direction(g)
    log.append(d)
    return x - lr * (d + weight_decay * x)
""",
        },
    ),
    Variant(
        "two searches for the ends, and scipy",
        cells={
            "longest-step": """\
def longest_step(betas, steps):
    from scipy.signal import lfilter

    ones = np.ones(steps)
    m, v = (lfilter([1 - beta], [1, -beta], ones) for beta in betas)
    gain = m / np.sqrt(v)
    return 1 + np.flatnonzero(gain == gain.max())[0], gain.max()
""",
            "limits": """\
from scipy.optimize import brentq


def penalty_limit(curvature, center, weight_decay):
    def end(a, c):
        return brentq(lambda x: a * (x - c) + weight_decay * x, -abs(c) - 1, abs(c) + 1, xtol=1e-14, rtol=1e-14)

    return np.vectorize(end)(curvature, center)


def adamw_limit(center, weight_decay):
    def end(c):
        pull = lambda x: weight_decay * x + np.sign(x - c)
        low, high = -abs(c) - 1, abs(c) + 1
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (low, middle) if pull(middle) > 0 else (middle, high)
        return (low + high) / 2

    return np.array([end(c) for c in center])
""",
        },
    ),
    Variant(
        "the package's optimizers, where a student finds them",
        cells={
            "adagrad": """\
def adagrad_step(x, g, v, lr, eps=1e-10):
    import torch

    p = torch.from_numpy(x.copy()).requires_grad_()
    p.grad = torch.from_numpy(g.copy())
    optimizer = torch.optim.Adagrad([p], lr=lr, eps=eps)
    optimizer.state[p]["sum"] = torch.from_numpy(v.copy())
    optimizer.step()
    return p.detach().numpy(), optimizer.state[p]["sum"].numpy()
""",
            "adam": """\
def adam_step(x, g, state, lr, betas=(0.9, 0.999), eps=1e-8):
    '''One step, with the averages of every state kept in one array.'''
    t, old = state["t"] + 1, np.stack([state["m"], state["v"]])
    beta = np.array(betas, dtype=x.dtype).reshape((2,) + (1,) * x.ndim)
    new = beta * old + (1 - beta) * np.stack([g, g * g])
    m_hat, v_hat = new / (1 - beta**t)
    return x - lr * m_hat / (np.sqrt(v_hat) + eps), {"t": t, "m": new[0], "v": new[1]}
""",
            "weight-decay": """\
from functools import partial


def one_step(inside, outside, x, g, direction, lr, weight_decay):
    return x - lr * direction(g + inside * weight_decay * x) - outside * lr * weight_decay * x


penalty_step = partial(one_step, 1, 0)
decay_step = partial(one_step, 0, 1)
""",
        },
    ),
    Variant(
        "every exercise in one line",
        cells={
            "adagrad": "adagrad_step = lambda x, g, v, lr, eps=1e-10: (x - lr * g / (np.sqrt(v + g * g) + eps), v + g * g)",
            "rmsprop": """\
average = lambda v, g, beta: beta * v + (1 - beta) * g * g
rmsprop_step = lambda x, g, v, lr, beta=0.99, eps=1e-8: (
    x - lr * g / (average(v, g, beta) ** 0.5 + eps), average(v, g, beta)
)
""",
            "steps-to-forget": "steps_to_forget = lambda beta, ratio: int(np.ceil(np.log(ratio) / np.log(1 / beta)))",
            "gain": """\
uncorrected_gain = lambda betas, steps: np.array(
    [(1 - betas[0] ** t) / (1 - betas[1] ** t) ** 0.5 for t in range(1, steps + 1)]
)
""",
            "longest-step": """\
longest_step = lambda betas, steps: (
    lambda gain: (np.argmax(gain) + 1, np.max(gain))
)(uncorrected_gain(betas, steps))
""",
            "weight-decay": """\
penalty_step = lambda x, g, direction, lr, weight_decay: x - lr * direction(weight_decay * x + g)
decay_step = lambda x, g, direction, lr, weight_decay: x * (1 - lr * weight_decay) - lr * direction(g)
""",
            "limits": """\
penalty_limit = lambda curvature, center, weight_decay: curvature / (weight_decay + curvature) * center
adamw_limit = lambda center, weight_decay: (
    np.clip(center, -1 / weight_decay, 1 / weight_decay) if weight_decay else center
)
""",
        },
    ),
]
