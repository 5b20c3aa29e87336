"""Plausible wrong solutions of lab 06, and what each still earns."""

from grading_cases import Mutant

DOUBLE_BACKWARD = """\
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(x), x, create_graph=True)
    (product,) = torch.autograd.grad(gradient @ v, x)
    return product
"""
DIFFERENCES = """\
    def gradient(at):
        at = at.detach().clone().requires_grad_()
        return torch.autograd.grad(value(at), at)[0]

    eps = EPS
    return (gradient(x + eps * v) - gradient(x - eps * v)) / (2 * eps)
"""
TRAINING = """\
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * n / (n - 1) * var
"""

MUTANTS = [
    # ---------------------------------------------------------------- a Hessian times a vector
    Mutant(
        "differences with one step size for every length of v",
        cell="hvp",
        old=DOUBLE_BACKWARD,
        new=DIFFERENCES.replace("EPS", "1e-4"),
        exercise="test-hvp",
        score=2.0,
    ),
    Mutant(
        "differences along the unit vector, 0 / 0 where v is zero",
        cell="hvp",
        old=DOUBLE_BACKWARD,
        new=DIFFERENCES.replace("EPS", "1e-4 / v.norm()"),
        exercise="test-hvp",
        score=2.0,
    ),
    Mutant(
        "Gauss–Newton of a scalar: g g'v",
        cell="hvp",
        old="    (product,) = torch.autograd.grad(gradient @ v, x)\n    return product",
        new="    return (gradient @ v) * gradient",
        exercise="test-hvp",
        score=0.0,
    ),
    Mutant(
        "the vector is scaled where it stands",
        cell="hvp",
        old="    (product,) = torch.autograd.grad(gradient @ v, x)\n",
        new="    (product,) = torch.autograd.grad(gradient @ v, x)\n    v /= v.norm() + 1e-12\n",
        exercise="test-hvp",
        score=2.0,
    ),
    # ---------------------------------------------------------------- Lanczos
    Mutant(
        "the flag is ignored",
        cell="lanczos",
        old="        if reorthogonalize:",
        new="        if False:",
        exercise="test-lanczos",
        score=3.0,
    ),
    Mutant(
        "the vector before last is not subtracted",
        cell="lanczos",
        old="            z = z - betas[k - 1] * basis[k - 1]",
        new="            pass",
        exercise="test-lanczos",
        score=3.0,
    ),
    Mutant(
        "reorthogonalized against the last vector only",
        cell="lanczos",
        old="Q = np.stack(basis)",
        new="Q = np.stack(basis[-1:])",
        exercise="test-lanczos",
        score=3.0,
    ),
    Mutant(
        "the start is normalized in place",
        cell="lanczos",
        old="    q, basis, alphas, betas = start / np.linalg.norm(start), [], [], []",
        new="    start /= np.linalg.norm(start)\n    q, basis, alphas, betas = start, [], [], []",
        exercise="test-lanczos",
        score=4.0,
    ),
    Mutant(
        "beta is taken before the reorthogonalization",
        cell="lanczos",
        old="        if reorthogonalize:",
        new="        betas.append(np.linalg.norm(z))\n        if reorthogonalize:",
        exercise="test-lanczos",
        score=0.0,
    ),
    Mutant(
        "reorthogonalized without the flag, too",
        cell="lanczos",
        old="        if reorthogonalize:",
        new="        if True:",
        exercise="test-lanczos",
        score=4.0,
    ),
    Mutant(
        "no left-over where the flag is set",
        cell="lanczos",
        old="        q = z / betas[k]\n",
        new="        q = z / betas[k]\n    if reorthogonalize:\n        betas[-1] = 0.0\n",
        exercise="test-lanczos",
        score=4.0,
    ),
    # ---------------------------------------------------------------- Ritz values
    Mutant(
        "certificates without the left-over",
        cell="ritz",
        old="betas[-1] * np.abs(vectors[-1])",
        new="np.abs(vectors[-1])",
        exercise="test-ritz",
        score=2.0,
    ),
    Mutant(
        "weights are not squared",
        cell="ritz",
        old="vectors[0] ** 2",
        new="np.abs(vectors[0])",
        exercise="test-ritz",
        score=2.0,
    ),
    Mutant(
        "the first beta left out of T, the last one in",
        cell="ritz",
        old="np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1)",
        new="np.diag(betas[1:], 1) + np.diag(betas[1:], -1)",
        exercise="test-ritz",
        score=0.0,
    ),
    Mutant(
        "certificates with the sign of an eigenvector",
        cell="ritz",
        old="np.abs(vectors[-1])",
        new="vectors[-1]",
        exercise="test-ritz",
        score=2.0,
    ),
    # ---------------------------------------------------------------- batch normalization, forward
    Mutant(
        "the remembered variance is the biased one",
        cell="batch-norm",
        old="momentum * n / (n - 1) * var",
        new="momentum * var",
        exercise="test-batch-norm",
        score=3.0,
    ),
    Mutant(
        "vectors lose the axis of their one position",
        cell="batch-norm",
        old="    return weight[:, None] * normal + bias[:, None], running",
        new="    return np.squeeze(weight[:, None] * normal + bias[:, None]), running",
        exercise="test-batch-norm",
        score=3.0,
    ),
    Mutant(
        "the variance that normalizes is the unbiased one",
        cell="batch-norm",
        old="        mean, var = x.mean(axis=(0, 2)), x.var(axis=(0, 2))\n",
        new="        mean, var = x.mean(axis=(0, 2)), x.var(axis=(0, 2), ddof=1)\n        n = np.inf\n",
        exercise="test-batch-norm",
        score=1.0,
    ),
    Mutant(
        "the running averages are changed in place",
        cell="batch-norm",
        old=TRAINING,
        new="""\
        running_mean *= 1 - momentum
        running_mean += momentum * mean
        running_var *= 1 - momentum
        running_var += momentum * n / (n - 1) * var
""",
        exercise="test-batch-norm",
        score=2.0,
    ),
    Mutant(
        "training normalizes with the running averages, too",
        cell="batch-norm",
        old="    normal = (x - mean[:, None])",
        new="    mean, var = running_mean, running_var\n    normal = (x - mean[:, None])",
        exercise="test-batch-norm",
        score=2.0,
    ),
    # ---------------------------------------------------------------- batch normalization, backward
    Mutant(
        "mean and variance are taken for constants",
        cell="backward",
        old="r * (u - shift - normal * stretch)",
        new="r * u",
        exercise="test-backward",
        score=1.0,
    ),
    Mutant(
        "the path through the variance is forgotten",
        cell="backward",
        old="r * (u - shift - normal * stretch)",
        new="r * (u - shift)",
        exercise="test-backward",
        score=1.0,
    ),
    Mutant(
        "the gain is forgotten on the way back",
        cell="backward",
        old="    u = weight[:, None] * g",
        new="    u = g",
        exercise="test-backward",
        score=1.0,
    ),
    Mutant(
        "means over the samples only",
        cell="backward",
        old="    shift = u.mean(axis=(0, 2), keepdims=True)\n    stretch = (u * normal).mean(axis=(0, 2), keepdims=True)",
        new="    shift = u.mean(axis=0, keepdims=True)\n    stretch = (u * normal).mean(axis=0, keepdims=True)",
        exercise="test-backward",
        score=2.0,
    ),
    Mutant(
        "the gradient of the gain with x in place of the normalized x",
        cell="backward",
        old="(g * normal).sum(axis=(0, 2)), g.sum",
        new="(g * x).sum(axis=(0, 2)), g.sum",
        exercise="test-backward",
        score=3.0,
    ),
    Mutant(
        "eps is left out",
        cell="backward",
        old="np.sqrt(x.var(axis=(0, 2), keepdims=True) + eps)",
        new="np.sqrt(x.var(axis=(0, 2), keepdims=True))",
        exercise="test-backward",
        score=1.0,
    ),
    # ---------------------------------------------------------------- phases
    Mutant(
        "chi with tanh' in place of its square",
        cell="phase",
        old="(1 - np.tanh(h) ** 2) ** 2, q)",
        new="1 - np.tanh(h) ** 2, q)",
        exercise="test-phase",
        score=1.0,
    ),
    Mutant(
        "a depth scale below zero in order",
        cell="phase",
        old="1 / abs(np.log(chi))",
        new="1 / np.log(chi)",
        exercise="test-phase",
        score=2.0,
    ),
    Mutant(
        "no biases in V",
        cell="phase",
        old="np.tanh(h) ** 2, q) + sigma_b2",
        new="np.tanh(h) ** 2, q)",
        exercise="test-phase",
        score=0.0,
    ),
    Mutant(
        "20 steps of V, whether they suffice or not",
        cell="phase",
        old="    while abs(q - before) > 1e-12:",
        new="    for _ in range(20):",
        exercise="test-phase",
        score=1.0,
    ),
    # ---------------------------------------------------------------- a hundred layers
    Mutant(
        "the variance of the weights forgotten in that of the biases",
        cell="critical",
        old="q - sigma_w2 * gauss_mean",
        new="q - gauss_mean",
        exercise="test-hundred",
        score=4.0,
    ),
    Mutant(
        "the way back without transposing",
        cell="signals",
        old="W.T @ (",
        new="W @ (",
        exercise="test-hundred",
        score=3.0,
    ),
    Mutant(
        "the matrix first, then tanh",
        cell="signals",
        old="        g = W.T @ ((1 - np.tanh(h) ** 2) * g)",
        new="        g = (1 - np.tanh(h) ** 2) * (W.T @ g)",
        exercise="test-hundred",
        score=3.0,
    ),
    Mutant(
        "lengths of the activations",
        cell="signals",
        old="np.array([np.mean(h**2) for h in hs])",
        new="np.array([np.mean(np.tanh(h) ** 2) for h in hs])",
        exercise="test-hundred",
        score=4.0,
    ),
]
