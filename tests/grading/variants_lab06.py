"""Correct solutions of lab 06 in other styles; each keeps every point."""

from grading_cases import Variant

VARIANTS = [
    Variant(
        "torch everywhere, tensors come back",
        cells={
            "hvp": """\
def hessian_vector_product(value, x, v):
    return torch.autograd.functional.hvp(value, x, v)[1]
""",
            "lanczos": """\
def lanczos(product, start, steps, reorthogonalize=False):
    q = torch.tensor(start, dtype=torch.float64)
    q, before, beta = q / q.norm(), torch.zeros(len(start), dtype=torch.float64), 0.0
    Q, alphas, betas = torch.zeros(steps, len(start), dtype=torch.float64), torch.zeros(steps), torch.zeros(steps)
    alphas, betas = alphas.double(), betas.double()
    for k in range(steps):
        Q[k] = q
        z = torch.as_tensor(product(q.numpy()), dtype=torch.float64)
        alphas[k] = q @ z
        z = z - alphas[k] * q - beta * before
        if reorthogonalize:
            z -= Q[: k + 1].T @ (Q[: k + 1] @ z)
        betas[k] = beta = z.norm()
        before, q = q, z / beta
    return alphas, betas, Q
""",
            "ritz": """\
def ritz(alphas, betas):
    a, b = torch.as_tensor(alphas), torch.as_tensor(betas)
    T = torch.diag(a)
    for k in range(len(a) - 1):
        T[k, k + 1] = T[k + 1, k] = b[k]
    theta, S = torch.linalg.eigh(T)
    return theta, S[0].square(), b[-1] * S[-1].abs()
""",
            "batch-norm": """\
def batch_norm(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    x, weight, bias, m, v = (torch.as_tensor(a).clone() for a in (x, weight, bias, running_mean, running_var))
    y = torch.nn.functional.batch_norm(x, m, v, weight, bias, training, momentum, eps)
    return y, m, v
""",
            "backward": """\
def batch_norm_backward(g, x, weight, eps=1e-5):
    x, w = (torch.tensor(a, requires_grad=True) for a in (x, weight))
    b = torch.zeros(len(w), dtype=torch.float64, requires_grad=True)
    y = torch.nn.functional.batch_norm(x, None, None, w, b, training=True, eps=eps)
    return torch.autograd.grad(y, (x, w, b), torch.tensor(g))
""",
            "signals": """\
def signals(x, weights, biases, g):
    layers, lengths = [torch.tensor(x, requires_grad=True)], []
    for W, b in zip(torch.tensor(weights), torch.tensor(biases)):
        h = torch.mv(W, layers[-1]) + b
        lengths.append(h.detach().square().mean())
        layers.append(h.tanh())
    gradients = torch.autograd.grad(layers[-1], layers, torch.tensor(g))
    return torch.stack(lengths), torch.stack([z.square().mean() for z in gradients])
""",
        },
    ),
    Variant(
        "torch.func, scipy's tridiagonal solver and quadrature",
        cells={
            "hvp": """\
from torch.func import grad, jvp


def hessian_vector_product(value, x, v):
    return jvp(grad(value), (x,), (v,))[1]
""",
            "ritz": """\
from scipy.linalg import eigh_tridiagonal


def ritz(alphas, betas):
    theta, s = eigh_tridiagonal(alphas, betas[: len(alphas) - 1])
    return theta, s[0, :] ** 2, abs(betas[-1] * s[-1, :])
""",
            "phase": """\
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm


def mean(f, q):
    return quad(lambda z: f(q**0.5 * z) * norm.pdf(z), -10, 10, limit=200)[0]


def phase(sigma_w2, sigma_b2):
    if sigma_b2 == 0 and sigma_w2 <= 1:
        q = 0.0
    else:
        excess = lambda q: sigma_w2 * mean(lambda h: np.tanh(h) ** 2, q) + sigma_b2 - q
        q = brentq(excess, 1e-6, sigma_w2 + sigma_b2, xtol=1e-10)
    chi = sigma_w2 * mean(lambda h: np.cosh(h) ** -4.0, q)
    return dict(q=q, chi=chi, depth=abs(1 / np.log(chi)))
""",
            "critical": """\
from scipy.integrate import quad


def critical(q):
    density = lambda z: np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    slope, _ = quad(lambda z: density(z) / np.cosh(q**0.5 * z) ** 4, -9, 9, epsabs=1e-12)
    square, _ = quad(lambda z: density(z) * np.tanh(q**0.5 * z) ** 2, -9, 9, epsabs=1e-12)
    return [1 / slope, q - square / slope]
""",
        },
    ),
    Variant(
        "differences of gradients, a step that suits the length of v",
        cells={
            "hvp": """\
def hessian_vector_product(value: callable, x: torch.Tensor, v: torch.Tensor) -> np.ndarray:
    length = float(v.norm())
    if length == 0:
        return np.zeros(len(x))
    eps = 1e-5 / length
    ahead, behind = gradient_of(value, x + eps * v), gradient_of(value, x - eps * v)
    return (ahead - behind) / (2 * eps)
""",
        },
        helpers={
            "hvp": """\
def gradient_of(value, x):
    x = x.clone().detach().requires_grad_(True)
    value(x).backward()
    return x.grad.numpy().copy()
""",
        },
    ),
    Variant(
        "one-sided differences, only just accurate enough",
        cells={
            "hvp": """\
def hessian_vector_product(value, x, v):
    def gradient(at):
        at = at.detach().clone().requires_grad_()
        value(at).backward()
        return at.grad

    eps = 1e-6 / max(v.norm().item(), 1e-12)
    return (gradient(x + eps * v) - gradient(x)) / eps
""",
        },
    ),
    Variant(
        "the whole Hessian, column by column, and the flag set on the tensor that was passed",
        cells={
            "hvp": """\
def hessian_vector_product(value, x, v):
    x.requires_grad_()
    gradient = torch.autograd.grad(value(x), x, create_graph=True)[0]
    rows = [torch.autograd.grad(entry, x, retain_graph=True)[0] for entry in gradient]
    return torch.stack(rows) @ v
""",
        },
    ),
    Variant(
        "modified Gram–Schmidt in loops, lists come back",
        cells={
            "lanczos": """\
def lanczos(product, start, steps, reorthogonalize=False):
    norm = sum(s * s for s in start) ** 0.5
    Q = [start / norm]
    alphas, betas = [], []
    for k in range(steps):
        z = np.array(product(Q[k]))
        a = float(np.dot(Q[k], z))
        z -= a * Q[k]
        if k:
            z -= betas[-1] * Q[k - 1]
        if reorthogonalize:
            for old in Q:
                z -= np.dot(old, z) * old
        b = float(np.sqrt(np.dot(z, z)))
        alphas.append(a)
        betas.append(b)
        Q.append(z / b)
    return alphas, betas, Q[:-1]
""",
            "ritz": """\
def ritz(alphas, betas):
    m = len(alphas)
    T = np.zeros((m, m))
    for i in range(m):
        T[i, i] = alphas[i]
        if i + 1 < m:
            T[i, i + 1] = betas[i]
            T[i + 1, i] = betas[i]
    values, vectors = np.linalg.eigh(T)
    weights = [vectors[0, i] ** 2 for i in range(m)]
    certificates = [betas[m - 1] * abs(vectors[m - 1, i]) for i in range(m)]
    return list(values), weights, certificates
""",
            "batch-norm": """\
def batch_norm(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    N, C, S = x.shape
    y = np.empty(x.shape)
    new_mean, new_var = list(running_mean), list(running_var)
    for c in range(C):
        values = [x[i, c, s] for i in range(N) for s in range(S)]
        if training:
            n = len(values)
            mu = sum(values) / n
            sigma2 = sum((value - mu) ** 2 for value in values) / n
            new_mean[c] += momentum * (mu - running_mean[c])
            new_var[c] += momentum * (sigma2 * n / (n - 1) - running_var[c])
        else:
            mu, sigma2 = running_mean[c], running_var[c]
        for i in range(N):
            for s in range(S):
                y[i, c, s] = weight[c] * (x[i, c, s] - mu) / (sigma2 + eps) ** 0.5 + bias[c]
    return y, new_mean, new_var
""",
            "backward": """\
def batch_norm_backward(g, x, weight, eps=1e-5):
    dx, dw, db = np.zeros_like(x), [], []
    for c in range(len(weight)):
        xs, gs = x[:, c].ravel(), g[:, c].ravel()
        n, mu = len(xs), xs.mean()
        var = ((xs - mu) ** 2).mean()
        hat = (xs - mu) / (var + eps) ** 0.5
        jacobian = (np.eye(n) - np.ones((n, n)) / n - np.outer(hat, hat) / n) / (var + eps) ** 0.5
        dx[:, c] = (jacobian @ gs * weight[c]).reshape(x[:, c].shape)
        dw.append(hat @ gs)
        db.append(sum(gs))
    return dx, dw, db
""",
        },
    ),
    Variant(
        "einsum, matrices filled in place, every product in one line",
        cells={
            "lanczos": """\
def lanczos(product, start, steps, reorthogonalize=False):
    Q, T = np.zeros((steps + 1, len(start))), np.zeros((steps + 1, steps + 1))
    Q[0] = start / np.sqrt(np.einsum("i,i", start, start))
    for k in range(steps):
        Q[k + 1] = product(Q[k].copy())
        T[k, k] = np.einsum("i,i", Q[k], Q[k + 1])
        Q[k + 1] -= T[k, k] * Q[k] + (T[k, k - 1] * Q[k - 1] if k > 0 else 0)
        if reorthogonalize:
            for _ in range(2):
                Q[k + 1] -= np.einsum("j,ji->i", np.einsum("ji,i->j", Q[: k + 1], Q[k + 1]), Q[: k + 1])
        T[k, k + 1] = T[k + 1, k] = np.linalg.norm(Q[k + 1])
        Q[k + 1] /= T[k, k + 1]
    return np.diag(T)[:-1], np.diag(T, 1), Q[:-1]
""",
            "batch-norm": """\
def batch_norm(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    n = x.shape[0] * x.shape[2]
    if not training:
        scale = weight / np.sqrt(running_var + eps)
        return np.einsum("ncs,c->ncs", x, scale) + (bias - running_mean * scale)[None, :, None], running_mean, running_var
    mean = np.einsum("ncs->c", x) / n
    centred = x - mean.reshape(1, -1, 1)
    var = np.einsum("ncs,ncs->c", centred, centred) / n
    y = np.einsum("ncs,c,c->ncs", centred, weight, (var + eps) ** -0.5) + bias.reshape(1, -1, 1)
    blend = lambda old, new: old + momentum * (new - old)
    return y, blend(running_mean, mean), blend(running_var, var * n / (n - 1))
""",
            "backward": """\
def batch_norm_backward(g, x, weight, eps=1e-5):
    n = x.shape[0] * x.shape[2]
    centred = x - np.einsum("ncs->c", x)[:, None] / n
    r = (np.einsum("ncs,ncs->c", centred, centred) / n + eps) ** -0.5
    dbias = np.einsum("ncs->c", g)
    dweight = np.einsum("ncs,ncs,c->c", g, centred, r)
    dx = g - (dbias / n)[:, None] - centred * (r * dweight / n)[:, None]
    return dx * (r * weight)[:, None], dweight, dbias
""",
            "signals": """\
def signals(x, weights, biases, g):
    L, N = biases.shape
    D, lengths, slopes = np.empty((L, N)), np.empty(L), np.empty(L + 1)
    for l in range(L):
        h = np.einsum("ij,j->i", weights[l], x) + biases[l]
        lengths[l] = np.einsum("i,i", h, h) / N
        x = np.tanh(h)
        D[l] = 1 - x * x
    slopes[L] = np.einsum("i,i", g, g) / N
    for l in range(L - 1, -1, -1):
        g = np.einsum("i,i,ij->j", g, D[l], weights[l])
        slopes[l] = np.einsum("i,i", g, g) / N
    return lengths, slopes
""",
        },
    ),
    Variant(
        "single precision wherever it is allowed",
        cells={
            "batch-norm": """\
def batch_norm(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    x, weight, bias, m, v = (np.array(a, dtype=np.float32) for a in (x, weight, bias, running_mean, running_var))
    if training:
        mean, var = x.mean((0, 2)), x.var((0, 2))
        n = np.float32(x[:, 0].size)
        m *= np.float32(1 - momentum)
        m += np.float32(momentum) * mean
        v *= np.float32(1 - momentum)
        v += np.float32(momentum) * var * n / (n - 1)
    else:
        mean, var = m, v
    x -= mean[:, None]
    x *= (weight / np.sqrt(var + np.float32(eps)))[:, None]
    x += bias[:, None]
    return x, m, v
""",
            "backward": """\
def batch_norm_backward(g, x, weight, eps=1e-5):
    g, x, weight = (a.astype("float32") for a in (g, x, weight))
    mean, var = x.mean((0, 2), keepdims=True), x.var((0, 2), keepdims=True)
    n = x.shape[0] * x.shape[2]
    dweight = np.sum(g * (x - mean), axis=(0, 2)) / np.sqrt(var.ravel() + np.float32(eps))
    dbias = np.sum(g, axis=(0, 2))
    # the three sums of Ioffe & Szegedy
    dhat = g * weight.reshape(1, -1, 1)
    dvar = (dhat * (x - mean)).sum((0, 2), keepdims=True) * -0.5 * (var + np.float32(eps)) ** -1.5
    dmean = -dhat.sum((0, 2), keepdims=True) / np.sqrt(var + np.float32(eps))
    dx = dhat / np.sqrt(var + np.float32(eps)) + dvar * 2 * (x - mean) / n + dmean / n
    return dx, dweight, dbias
""",
            "signals": """\
def signals(x, weights, biases, g):
    x, weights, biases, g = (torch.tensor(a, dtype=torch.float32) for a in (x, weights, biases, g))
    lengths, masks = [], []
    for W, b in zip(weights, biases):
        h = W @ x + b
        x = torch.tanh(h)
        masks.append(1 - x**2)
        lengths.append(float((h**2).mean()))
    slopes = [float((g**2).mean())]
    for l in reversed(range(len(weights))):
        g = (masks[l] * g) @ weights[l]
        slopes.insert(0, float((g**2).mean()))
    return lengths, slopes
""",
        },
    ),
    Variant(
        "recursion, forward on the way down and backward on the way up",
        cells={
            "signals": """\
def signals(x, weights, biases, g):
    lengths, slopes = [], []

    def layer(l, x):
        if l == len(weights):
            slopes.append(np.mean(g**2))
            return g
        h = weights[l].dot(x) + biases[l]
        lengths.append(np.mean(h**2))
        below = weights[l].T.dot(layer(l + 1, np.tanh(h)) / np.cosh(h) ** 2)
        slopes.append(np.mean(below**2))
        return below

    layer(0, x)
    return np.array(lengths), np.array(slopes)[::-1]
""",
            "phase": """\
def phase(sigma_w2, sigma_b2):
    def settle(q, most=600):
        following = sigma_w2 * gauss_mean(lambda h: np.tanh(h) ** 2, q) + sigma_b2
        return following if most == 0 or abs(following - q) < 1e-11 else settle(following, most - 1)

    q = settle(1.0)
    chi = sigma_w2 * gauss_mean(lambda h: 1 - 2 * np.tanh(h) ** 2 + np.tanh(h) ** 4, q)
    if chi < 1:
        return {"q": q, "chi": chi, "depth": -1 / np.log(chi)}
    return {"q": q, "chi": chi, "depth": 1 / np.log(chi)}
""",
        },
    ),
    Variant(
        "classes, and names of the student's own for what the notebook calls otherwise",
        cells={
            "lanczos": """\
class Tridiagonalization:
    def __init__(self, product, start):
        self.product, self.q = product, [np.asarray(start, dtype=float) / np.linalg.norm(start)]
        self.alphas, self.betas = np.array([]), np.array([])

    def step(self, clean):
        z = self.product(self.q[-1])
        self.alphas = np.append(self.alphas, self.q[-1] @ z)
        z = z - self.alphas[-1] * self.q[-1]
        if len(self.q) > 1:
            z = z - self.betas[-1] * self.q[-2]
        if clean:
            Q = np.array(self.q).T
            z = z - Q @ (Q.T @ z)
        self.betas = np.append(self.betas, np.linalg.norm(z))
        self.q.append(z / self.betas[-1])


def lanczos(product, start, steps, reorthogonalize=False):
    run = Tridiagonalization(product, start)
    for _ in range(steps):
        run.step(reorthogonalize)
    return run.alphas, run.betas, np.vstack(run.q[:steps])
""",
            "phase": """\
def phase(sigma_w2, sigma_b2):
    net = TanhNet(sigma_w2, sigma_b2)
    q = 1.0
    for data in range(400):
        q = net.V(q)
    print(f"settled at {q:.3g}")
    return {"depth": 1 / np.abs(np.log(net.chi(q))), "chi": net.chi(q), "q": q}
""",
            "critical": """\
def critical(q):
    unit = TanhNet(1.0, 0.0)
    w = 1.0 / unit.chi(q)
    return w, q - w * unit.V(q)
""",
        },
        helpers={
            "phase": """\
class TanhNet:
    def __init__(self, w, b):
        self.w, self.b = w, b

    def V(self, q):
        return self.w * gauss_mean(lambda h: np.tanh(h) ** 2, q) + self.b

    def chi(self, q):
        return self.w * gauss_mean(lambda h: (1 / np.cosh(h)) ** 4, q)
""",
        },
    ),
    Variant(
        "Gauss–Hermite nodes in place of the lab's integral, numbers as tensors and NumPy scalars",
        cells={
            "phase": """\
nodes, shares = np.polynomial.hermite_e.hermegauss(120)
shares = shares / shares.sum()


def phase(sigma_w2, sigma_b2):
    q = np.float64(1.0)
    for _ in range(300):
        q = sigma_w2 * (np.tanh(np.sqrt(q) * nodes) ** 2 @ shares) + sigma_b2
    chi = sigma_w2 * ((1 - np.tanh(np.sqrt(q) * nodes) ** 2) ** 2 @ shares)
    return {"q": torch.tensor(q), "chi": torch.tensor(chi), "depth": 1 / torch.tensor(chi).log().abs()}
""",
            "critical": """\
def critical(q):
    z, p = np.polynomial.hermite_e.hermegauss(120)
    p = p / p.sum()
    t2 = np.tanh(np.sqrt(q) * z) ** 2
    sigma_w2 = np.reciprocal(p @ (1 - t2) ** 2)
    return torch.tensor([sigma_w2, q - sigma_w2 * (p @ t2)])
""",
            "signals": """\
def signals(x, weights, biases, g):
    hs = [weights[0] @ x + biases[0]]
    for l in range(1, len(weights)):
        hs.append(weights[l] @ np.tanh(hs[l - 1]) + biases[l])
    back = [g]
    for l in range(len(weights) - 1, -1, -1):
        jacobian = np.diag(1 - np.tanh(hs[l]) ** 2) @ weights[l]
        back = [jacobian.T @ back[0], *back]
    return (np.square(hs).mean(axis=1), np.square(back).mean(axis=1))
""",
        },
    ),
    Variant(
        "channels first: views, reshapes and early returns",
        cells={
            "ritz": """\
def ritz(alphas, betas):
    if len(alphas) == 1:
        return alphas.copy(), np.ones(1), np.abs(betas)
    T = np.diagflat(alphas) + np.diagflat(betas[:-1], 1) + np.diagflat(betas[:-1], -1)
    values, vectors = np.linalg.eig(T)
    order = values.argsort()
    values, vectors = values[order], vectors[:, order]
    vectors = vectors / np.linalg.norm(vectors, axis=0)
    return values, np.abs(vectors[0]) ** 2, np.abs(vectors[-1]) * betas[-1]
""",
            "batch-norm": """\
def batch_norm(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    channels = x.swapaxes(0, 1).reshape(x.shape[1], -1)

    def apply(mean, var):
        rows = (channels.T - mean) / np.sqrt(var + eps) * weight + bias
        return rows.T.reshape(x.shape[1], x.shape[0], x.shape[2]).swapaxes(0, 1)

    if not training:
        return apply(running_mean, running_var), running_mean.copy(), running_var.copy()
    mean, var, unbiased = channels.mean(1), channels.var(1), channels.var(1, ddof=1)
    kept = 1 - momentum
    return apply(mean, var), kept * running_mean + momentum * mean, kept * running_var + momentum * unbiased
""",
            "backward": """\
def batch_norm_backward(g, x, weight, eps=1e-5):
    flat = lambda a: np.moveaxis(a, 1, 0).reshape(a.shape[1], -1)
    G, X = flat(g), flat(x)
    std = np.sqrt(X.var(1) + eps)[:, None]
    H = (X - X.mean(1)[:, None]) / std
    dX = (weight[:, None] / std) * (G - G.mean(1)[:, None] - H * (G * H).mean(1)[:, None])
    dx = np.moveaxis(dX.reshape(x.shape[1], x.shape[0], x.shape[2]), 0, 1)
    return dx, (G * H).sum(1), G.sum(1)
""",
        },
    ),
    Variant(
        "the package, where a student finds it",
        cells={
            "ritz": """\
from optcourse.landscape.hessian import Tridiagonal


def ritz(alphas, betas):
    values, S, residuals = Tridiagonal(alphas, betas, torch.zeros(0)).ritz()
    return values, S[0] ** 2, residuals
""",
            "phase": """\
from optcourse.theory import signal as mean_field


def phase(sigma_w2, sigma_b2):
    q = mean_field.fixed_point(sigma_w2=sigma_w2, sigma_b2=sigma_b2, activation="tanh")
    chi = mean_field.chi(q=q, sigma_w2=sigma_w2, activation="tanh")
    return {"q": q, "chi": chi, "depth": mean_field.depth_scales(sigma_w2=sigma_w2, sigma_b2=sigma_b2).gradient}
""",
            "critical": """\
def critical(q):
    from optcourse.theory import signal

    return signal.critical(q=q, activation="tanh")
""",
            "backward": """\
from optcourse.models import norms


def batch_norm_backward(g, x, weight, eps=1e-5):
    g, x, weight = map(torch.as_tensor, (g, x, weight))
    normal = norms.normalize(x, "batch", eps=eps)
    dx = norms.normalize_backward(g * weight[:, None], x, (0, 2), eps)
    return dx, (g * normal).sum((0, 2)), g.sum((0, 2))
""",
        },
    ),
    Variant(
        "helpers with the names that tests like",
        cells={
            "hvp": """\
def hessian_vector_product(value, x, v):
    at = x.detach().clone().requires_grad_()
    u = soft(value(at), at)
    return soft((u * v).sum(), at) if u.requires_grad else torch.zeros_like(v)
""",
            "lanczos": """\
def lanczos(product, start, steps, reorthogonalize=False):
    Q, T = [chain(start)[0]], []
    for k in range(steps):
        H = product(Q[-1])
        alpha = turn(Q[-1], H)
        z = H - alpha * Q[-1] - (T[-1][1] * Q[-2] if T else 0)
        if reorthogonalize:
            for q in Q:
                z = z - turn(q, z) * q
        q, beta = chain(z)
        T.append((alpha, beta))
        Q.append(q)
    alphas, betas = zip(*T)
    return alphas, betas, np.array(Q[:-1])
""",
            "ritz": """\
def ritz(alphas, betas):
    theta, s = np.linalg.eigh(whole(alphas, betas[:-1]))
    return theta, np.square(s[0]), betas[-1] * np.abs(s[-1])
""",
            "batch-norm": """\
def batch_norm(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    old = running_mean, running_var
    if training:
        mean, var = two(x)
        n = x.size / len(mean)
        new = [one(a, b, momentum) for a, b in zip(old, (mean, var * n / (n - 1)))]
    else:
        (mean, var), new = old, old
    return gain(x, mean, var, eps) * weight[:, None] + bias[:, None], *new
""",
            "backward": """\
def batch_norm_backward(g, x, weight, eps=1e-5):
    found = gain(x, *two(x), eps)
    r = (two(x)[1] + eps) ** -0.5
    parts = [(g * a).mean(axis=(0, 2)) for a in (1, found)]
    slopes = g - parts[0][:, None] - found * parts[1][:, None]
    n = x.shape[0] * x.shape[2]
    return slopes * (weight * r)[:, None], n * parts[1], n * parts[0]
""",
        },
        helpers={
            "hvp": """\
soft = lambda y, x: torch.autograd.grad(y, x, create_graph=True)[0]
""",
            "lanczos": """\
def turn(u, v):
    return float(np.dot(u, v))


def chain(z):
    length = turn(z, z) ** 0.5
    return z / length, length


def whole(diagonal, beside):
    return np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
""",
            "batch-norm": """\
def one(old, new, share):
    return old + share * (new - old)


def two(x):
    return x.mean(axis=(0, 2)), x.var(axis=(0, 2))


def gain(x, mean, var, eps):
    return (x - mean[:, None]) / np.sqrt(var + eps)[:, None]
""",
        },
    ),
    Variant(
        "variables named data, time, max and sum; partial, caches, prints",
        cells={
            "hvp": """\
import time

data, max = [], 0


def hessian_vector_product(value, x, v):
    began = time.time()
    x = x.clone().requires_grad_(True)
    first = torch.autograd.grad(value(x), x, create_graph=True)[0]
    dot = first @ v.detach()
    data.append(time.time() - began)
    return torch.autograd.grad(dot, x)[0].tolist() if dot.requires_grad else [0.0] * len(v)
""",
            "ritz": """\
def ritz(alphas, betas):
    T = np.zeros((len(alphas),) * 2)
    np.fill_diagonal(T, alphas)
    np.fill_diagonal(T[1:], betas[:-1])
    T = np.tril(T) + np.tril(T, -1).T
    values, vectors = np.linalg.eigh(T)
    sum = {"weights": vectors[0] ** 2, "certificates": np.abs(betas[-1] * vectors[-1])}
    return (values, *sum.values())
""",
            "phase": """\
time, sum = 100, 0
V = lambda q, w, b: w * gauss_mean(lambda h: np.tanh(h) ** 2, q) + b


def phase(sigma_w2, sigma_b2):
    q = 1.0
    for step in range(time):
        q = V(q, sigma_w2, sigma_b2)
    chi = sigma_w2 * gauss_mean(lambda h: np.cosh(h) ** -4.0, q)
    print("chi", chi)
    return {"chi": chi, "depth": float(np.abs(1 / np.log(chi))), "q": q, "V": V}
""",
            "critical": """\
from functools import lru_cache, partial


@lru_cache(maxsize=None)
def both(q):
    mean = partial(gauss_mean, q=q)
    return mean(lambda h: np.tanh(h) ** 2), mean(lambda h: (1 - np.tanh(h) ** 2) ** 2)


def critical(q):
    square, slope = both(q)
    return np.array([1, q * slope - square]) / slope
""",
            "signals": """\
def signals(x, weights, biases, g):
    lengths, gates = [], []
    for layer in zip(weights, biases):
        h = layer[0] @ x + layer[1]
        x = np.tanh(h)
        lengths.append(h @ h / len(h))
        gates.append(np.cosh(h) ** -2.0)
    slopes = [g @ g / len(g)]
    while gates:
        g = weights[len(gates) - 1].T @ (g * gates.pop())
        slopes.append(g @ g / len(g))
    slopes.reverse()
    return tuple({"lengths": lengths, "slopes": slopes}.values())
""",
        },
    ),
]
