"""The algorithms a second time, for the gradient of ``node_cases``: loops over nodes in numpy, from the papers."""

import math

import networkx as nx
import node_cases
import numpy as np
import torch

from optcourse import nodes

N, STEPS, LR = 8, 13, 0.1


class Numpy:
    """The gradient of ``node_cases`` node by node, with the numbers of the nodes' streams."""

    def __init__(self, n=N):
        generator = torch.Generator().manual_seed(17)
        self.centers = torch.randn(n, node_cases.DIM, generator=generator, dtype=torch.float64).numpy()
        self.scales = (0.5 + torch.rand(n, node_cases.DIM, generator=generator, dtype=torch.float64)).numpy()
        self.streams = nodes.Streams("data", 0, range(n))

    def __call__(self, x):
        noise = self.streams.normal(node_cases.DIM, dtype=torch.float64).numpy()
        return np.stack([self.scales[i] * np.sin(x[i] - self.centers[i]) + 0.1 * noise[i] for i in range(len(x))])


def start(n=N):
    return [np.linspace(-1, 1, node_cases.DIM) for _ in range(n)]


def mean(rows):
    return sum(rows) / len(rows)


def by_hand_psgd():
    x, grad = start(), Numpy()
    for _ in range(STEPS):
        g = mean(grad(x))
        x = [xi - LR * g for xi in x]
    return x


def by_hand_local(tau=3, drop=False):
    x, grad = start(), Numpy()
    for k in range(STEPS):
        g = grad(x)
        x = [x[i] - LR * g[i] for i in range(N)]
        if (k + 1) % tau == 0:
            present = [x[i] for i in range(N) if not drop or i != k % N]
            x = [mean(present)] * N
    return x


def drawn_clients(k, count, seed):
    """Which of the nodes are among the ``count`` smallest of their numbers in step k."""
    u = nodes.Streams(f"clients {k}", seed, range(N)).uniform(dtype=torch.float64).numpy()
    return sorted(np.argsort(u, kind="stable")[:count])


def by_hand_fedprox(mu=0.3, tau=2):
    """FedAvg's weighted mean over the sampled clients, of FedProx's local problem."""
    x, server, grad = start(), start()[0], Numpy()
    for k in range(STEPS):
        g = grad(x)
        x = [x[i] - LR * (g[i] + mu * (x[i] - server)) for i in range(N)]
        if (k + 1) % tau == 0:
            chosen = drawn_clients(k, 3, 1)
            held = sum(i + 1 for i in chosen)
            server = sum((i + 1) / held * x[i] for i in chosen)
            x = [server] * N
    return x


def by_hand_local_adam(tau=3):
    """torch's Adam on every node; only the parameters are averaged."""
    grad = Numpy()
    weights = [torch.nn.Parameter(torch.tensor(row)) for row in start()]
    optimizers = [torch.optim.Adam([w], lr=LR, betas=(0.8, 0.9)) for w in weights]
    for k in range(STEPS):
        g = grad([w.detach().numpy() for w in weights])
        for i in range(N):
            weights[i].grad = torch.tensor(g[i])
            optimizers[i].step()
        if (k + 1) % tau == 0:
            average = mean([w.detach().clone() for w in weights])
            with torch.no_grad():
                for w in weights:
                    w.copy_(average)
    return [w.detach().numpy() for w in weights]


def by_hand_server(change, tau=3, count=N):
    """Reddi et al., Algorithm 1: ``change`` is the server's update from the mean Delta = y_i - x of the clients."""
    x, server, grad = start(), start()[0], Numpy()
    for k in range(STEPS):
        g = grad(x)
        x = [x[i] - LR * g[i] for i in range(N)]
        if (k + 1) % tau == 0:
            chosen = drawn_clients(k, count, 0)
            server = server + change(mean([x[i] - server for i in chosen]))
            x = [server] * N
    return x


def server_momentum(beta, eta):
    v = 0.0

    def change(delta):
        nonlocal v
        v = beta * v + delta
        return eta * v

    return change


def adaptive_server(eta, beta1, tau, second):
    m, v = 0.0, tau**2

    def change(delta):
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * delta
        v = second(v, delta)
        return eta * m / (np.sqrt(v) + tau)

    return change


def by_hand_overlap(tau=3):
    """CoCoD-SGD: the round's change is added to the mean of the models at its start."""
    x, grad = start(), Numpy()
    for k in range(STEPS):
        if k % tau == 0:
            begun = list(x)
        g = grad(x)
        x = [x[i] - LR * g[i] for i in range(N)]
        if (k + 1) % tau == 0:
            x = [mean(begun) + x[i] - begun[i] for i in range(N)]
    return x


def by_hand_threshold():
    x, grad, anchor, since = start(), Numpy(), start()[0], 0
    for _ in range(STEPS):
        g = grad(x)
        x, since = [x[i] - LR * g[i] for i in range(N)], since + 1
        if mean([np.sum((xi - anchor) ** 2) for xi in x]) > 0.02 or since >= 50:
            anchor, since = mean(x), 0
            x = [anchor] * N
    return x


def by_hand_post_local():
    x, grad = start(), Numpy()
    for k in range(STEPS):
        g = grad(x)
        x = [x[i] - LR * g[i] for i in range(N)]
        if k < 4 or k in (6, 9, 12):
            x = [mean(x)] * N
    return x


def by_hand_scaffold(tau=3, chosen=lambda k: range(N)):
    """Algorithm 1 with its sum over the sampled clients: c moves by |S|/N of the mean of their changes."""
    server, grad = start()[0], Numpy()
    y, c_i, c = start(), [np.zeros(node_cases.DIM)] * N, np.zeros(node_cases.DIM)
    for k in range(STEPS):
        g = grad(y)
        y = [y[i] - LR * (g[i] - c_i[i] + c) for i in range(N)]
        if (k + 1) % tau == 0:
            here = chosen(k)
            new = {i: c_i[i] - c + (server - y[i]) / (tau * LR) for i in here}
            c = c + len(here) / N * mean([new[i] - c_i[i] for i in here])  # the paper's form of the server's update
            c_i = [new.get(i, c_i[i]) for i in range(N)]
            server = server + mean([y[i] - server for i in here])
            y = [server] * N
    return y


def by_hand_dsgd(matrices):
    x, grad = start(), Numpy()
    for k in range(STEPS):
        W, g = matrices[k % len(matrices)], grad(x)
        half = [x[i] - LR * g[i] for i in range(N)]
        x = [sum(W[i, j] * half[j] for j in range(N)) for i in range(N)]
    return x


def by_hand_push(sends):
    """Algorithm 1 of SGP as messages: ``sends(k, j)`` lists (receiver, share) of what node j has in round k."""
    u, w, grad = [np.array(row) for row in start()], [1.0] * N, Numpy()
    for k in range(STEPS):
        g = grad([u[i] / w[i] for i in range(N)])
        half = [u[i] - LR * g[i] for i in range(N)]
        new_u, new_w = [np.zeros_like(row) for row in u], [0.0] * N
        for j in range(N):
            for i, share in sends(k, j):
                new_u[i] += share * half[j]
                new_w[i] += share * w[j]
        u, w = new_u, new_w
    assert abs(sum(w) - N) < 1e-12 and max(w) - min(w) > 0.2  # not doubly stochastic
    return [u[i] / w[i] for i in range(N)]


def shares_of_lopsided(k, j):
    receivers = sorted({j, (j + 1) % N} | (set(range(2, N, 2)) if j == 0 else set()))
    return [(i, 1 / len(receivers)) for i in receivers]


def shares_of_pairs(k, j):
    to = (j + 2 ** (k % 3)) % N
    return [(j, 1.0)] if k % 3 == 1 and j < 2 else [(j, 1 / 3), (to, 2 / 3)]


def by_hand_tracking(W):
    x, grad = start(), Numpy()
    g = grad(x)
    y = list(g)
    for _ in range(STEPS):
        x = [sum(W[i, j] * (x[j] - LR * y[j]) for j in range(N)) for i in range(N)]
        new = grad(x)
        y = [sum(W[i, j] * y[j] for j in range(N)) + new[i] - g[i] for i in range(N)]
        g = new
    return x


def by_hand_d2(W):
    x, grad = np.stack(start()), Numpy()
    g = grad(x)
    old, x, old_g = x, W @ (x - LR * g), g
    for _ in range(STEPS - 1):
        g = grad(x)
        old, x, old_g = x, W @ (2 * x - old - LR * (g - old_g)), g
    return list(x)


def by_hand_relay(tree):
    """The paper's sum over nodes, without any message: node j's half step arrives after hops - 1 steps, x^0 before."""
    hops, grad, x0 = dict(nx.all_pairs_shortest_path_length(tree)), Numpy(), start()
    x, halves = x0, []
    for t in range(STEPS):
        g = grad(x)
        halves.append([x[j] - LR * g[j] for j in range(N)])

        def seen(i, j, t=t):
            sent = t - max(0, hops[i][j] - 1)
            return halves[sent][j] if sent >= 0 else x0[j]

        x = [sum(seen(i, j) for j in range(N)) / N for i in range(N)]
    return x


def top(v, k=4):
    kept = np.zeros_like(v)
    largest = np.argsort(-abs(v), kind="stable")[:k]
    kept[largest] = v[largest]
    return kept


def by_hand_choco(W, eta=0.4):
    x, public, grad = start(), [np.zeros(node_cases.DIM)] * N, Numpy()
    for _ in range(STEPS):
        g = grad(x)
        half = [x[i] - LR * g[i] for i in range(N)]
        public = [public[i] + top(half[i] - public[i]) for i in range(N)]
        x = [half[i] + eta * sum(W[i, j] * (public[j] - public[i]) for j in range(N)) for i in range(N)]
    return x


def by_hand_feedback(chosen=lambda k: range(N)):
    x, e, grad = start()[0], [np.zeros(node_cases.DIM)] * N, Numpy()
    for k in range(STEPS):
        g, sent = grad([x] * N), []
        for i in chosen(k):
            p = LR * g[i] + e[i]
            sent.append(top(p))
            e[i] = p - sent[-1]
        x = x - mean(sent)
    return [x] * N


def by_hand_powersgd(rank, momentum):
    """Algorithms 1 and 2, one matrix as a matrix; a basis of the columns from numpy's decomposition."""
    x, grad, e = start()[0], Numpy(), [np.zeros((3, 4)) for _ in range(N)]
    m = np.zeros_like(x)
    seed = torch.Generator().manual_seed(0)
    Q = torch.randn(4, rank, generator=seed, dtype=torch.float64).numpy()
    for _ in range(STEPS):
        g = grad([x] * N)
        delta = [g[i][:12].reshape(3, 4) + e[i] for i in range(N)]
        P = np.linalg.svd(mean([d @ Q for d in delta]), full_matrices=False)[0]
        Q = mean([d.T @ P for d in delta])
        e = [d - P @ Q.T for d in delta]
        update = np.concatenate([(P @ Q.T).ravel(), mean(list(g))[12:]])
        m = momentum * m + update
        x = x - LR * (update + m if momentum else update)
    return [x] * N


def by_hand_diloco(tau=3, chosen=range(N)):
    outer, server, grad = np.zeros(node_cases.DIM), start()[0], Numpy()
    weights = [torch.nn.Parameter(torch.tensor(row)) for row in start()]
    inner = [torch.optim.AdamW([w], lr=LR, weight_decay=0.1) for w in weights]  # the oracle for AdamW
    for k in range(STEPS):
        g = grad([w.detach().numpy() for w in weights])
        for i in range(N):
            weights[i].grad = torch.tensor(g[i])
            inner[i].step()
        if (k + 1) % tau == 0:
            delta = mean([server - weights[i].detach().numpy() for i in chosen])
            outer = 0.9 * outer + delta
            server = server - 0.7 * (0.9 * outer + delta)
            with torch.no_grad():
                for w in weights:
                    w.copy_(torch.tensor(server))
    return [w.detach().numpy() for w in weights]


def ring(n=N):
    W = np.zeros((n, n))
    for i in range(n):
        for j in (i - 1, i, i + 1):
            W[i, j % n] += 1 / 3
    return W


def one_peer():
    rounds = int(math.log2(N))
    return [(np.eye(N) + np.roll(np.eye(N), 2**p, axis=1)) / 2 for p in range(rounds)]


BY_HAND = {
    "psgd": by_hand_psgd,
    "local_sgd": by_hand_local,
    "local_sgd, drop-outs": lambda: by_hand_local(tau=2, drop=True),
    "local_sgd, when necessary": by_hand_threshold,
    "local_sgd, samples": by_hand_fedprox,
    "local_sgd, Adam": by_hand_local_adam,
    "local_sgd, FedAvgM": lambda: by_hand_server(server_momentum(0.9, 0.5)),
    "local_sgd, FedAdam": lambda: by_hand_server(
        adaptive_server(0.2, 0.8, 0.01, lambda v, delta: 0.9 * v + 0.1 * delta**2)
    ),
    "local_sgd, FedYogi": lambda: by_hand_server(
        adaptive_server(0.05, 0.9, 1e-3, lambda v, delta: v - 0.01 * delta**2 * np.sign(v - delta**2))
    ),
    "local_sgd, FedAdagrad": lambda: by_hand_server(
        adaptive_server(0.2, 0.0, 1e-3, lambda v, delta: v + delta**2), count=N // 2
    ),
    "overlap_local_sgd": by_hand_overlap,
    "post_local_sgd": by_hand_post_local,
    "scaffold": by_hand_scaffold,
    "scaffold, samples": lambda: by_hand_scaffold(tau=2, chosen=lambda k: drawn_clients(k, 3, 2)),
    "diloco": by_hand_diloco,
    "diloco, one out": lambda: by_hand_diloco(chosen=[i for i in range(N) if i != 1]),
    "dsgd": lambda: by_hand_dsgd([ring()]),
    "dsgd, one peer": lambda: by_hand_dsgd(one_peer()),
    "push_sum": lambda: by_hand_push(shares_of_lopsided),
    "push_sum, one peer": lambda: by_hand_push(shares_of_pairs),
    "gradient_tracking": lambda: by_hand_tracking(ring()),
    "d2": lambda: by_hand_d2((ring() + np.eye(N)) / 2),
    "relay_sum": lambda: by_hand_relay(nx.balanced_tree(2, 3).subgraph(range(N))),
    "choco": lambda: by_hand_choco(ring()),
    "error_feedback": by_hand_feedback,
    "error_feedback, samples": lambda: by_hand_feedback(chosen=lambda k: drawn_clients(k, 3, 2)),
    "powersgd": lambda: by_hand_powersgd(2, 0),
    "powersgd, momentum": lambda: by_hand_powersgd(1, 0.9),
    "powersgd, own feedback": lambda: by_hand_powersgd(1, 0),
}
