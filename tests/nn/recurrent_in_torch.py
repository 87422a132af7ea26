"""Recurrent layers and the same in PyTorch: stacks, both directions, packed lengths, initial and final carries.

`tools/make_torch_figures.py` writes PyTorch's outputs, carries and gradients, with which test_recurrent.py compares.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from funcgrad import nn

BATCH, TIME, SIZE, FEATURES = 3, 5, 4, 2
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
LENGTHS = np.array([5, 2, 4])


class Case(NamedTuple):
    """`kind` is RNN, LSTM or GRU."""

    kind: str
    layers: int = 1
    bidirectional: bool = False
    lengths: np.ndarray | None = None
    carry: bool = False
    relu: bool = False
    bias: bool = True

    @property
    def layer(self) -> nn.Layer:
        """The layer in funcgrad."""
        activation = {"activation": nn.relu} if self.relu else {}
        own = getattr(nn, self.kind)
        return own(FEATURES, self.layers, bidirectional=self.bidirectional, bias=self.bias, **activation)


CASES = {
    "RNN": Case("RNN"),
    "RNN of relu": Case("RNN", layers=2, relu=True, bias=False),
    "RNN, all": Case("RNN", layers=2, bidirectional=True, lengths=LENGTHS, carry=True),
    "LSTM": Case("LSTM"),
    "LSTM without bias": Case("LSTM", bias=False, carry=True),
    "LSTM stacked": Case("LSTM", layers=2, carry=True),
    "LSTM of lengths": Case("LSTM", lengths=LENGTHS),
    "LSTM, all": Case("LSTM", layers=2, bidirectional=True, lengths=LENGTHS, carry=True),
    "GRU": Case("GRU"),
    "GRU in both directions": Case("GRU", bidirectional=True),
    "GRU, all": Case("GRU", layers=2, bidirectional=True, lengths=LENGTHS, carry=True),
}


def inputs(case: Case) -> tuple[Any, np.ndarray, Any]:
    """Return params, x and the initial carry or None, in double precision."""
    rng, gates = np.random.default_rng(11), GATES[case.kind]
    sides = ["forward", "backward"] if case.bidirectional else [""]

    def cell(size: int) -> dict[str, np.ndarray]:
        shapes = {"kernel": (size, gates * FEATURES), "recurrent_kernel": (FEATURES, gates * FEATURES)}
        if case.bias:
            shapes |= {"bias": (gates * FEATURES,)} | ({"recurrent_bias": (FEATURES,)} if gates == 3 else {})
        return {name: rng.standard_normal(shape) for name, shape in shapes.items()}

    def stack(make: Any) -> Any:
        sizes = [SIZE] + [FEATURES * len(sides)] * (case.layers - 1)
        return tuple({side: make(n) for side in sides} if case.bidirectional else make(n) for n in sizes)

    def start(_: int) -> Any:
        parts = tuple(rng.standard_normal((BATCH, FEATURES)) for _ in range(1 + (gates == 4)))
        return parts if gates == 4 else parts[0]

    return stack(cell), rng.standard_normal((BATCH, TIME, SIZE)), stack(start) if case.carry else None


def weights(y: Any) -> np.ndarray:
    """What an output is multiplied with in the loss, whose gradient is compared."""
    return np.cos(np.arange(np.prod(y.shape))).reshape(y.shape)


def in_torch(case: Case, torch: Any) -> dict[str, np.ndarray]:
    """Return PyTorch's output, final carry (stacked over layers and directions), and gradients."""
    params, x, carry = inputs(case)
    options = {"nonlinearity": "relu"} if case.relu else {}
    kind = getattr(torch.nn, case.kind)
    module = kind(
        SIZE, FEATURES, case.layers, bidirectional=case.bidirectional, bias=case.bias, batch_first=True, **options
    ).double()
    suffixes = [f"_l{i}{side}" for i in range(case.layers) for side in ("", "_reverse")[: 1 + case.bidirectional]]
    module.load_state_dict({name: torch.tensor(value) for name, value in nn.to_torch(case.layer, params).items()})
    x = torch.tensor(x, requires_grad=True)
    start = None
    if carry is not None:
        parts = [c for own in carry for c in (own.values() if case.bidirectional else [own])]
        parts = list(zip(*parts, strict=True)) if case.kind == "LSTM" else [parts]
        parts = [torch.tensor(np.stack(part)) for part in parts]
        start = tuple(parts) if case.kind == "LSTM" else parts[0]
    given = x
    if case.lengths is not None:
        lengths = torch.tensor(case.lengths)
        given = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, final = module(given, start)
    if case.lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=TIME)
    finals = final if case.kind == "LSTM" else (final,)
    loss = sum((part * torch.tensor(weights(part))).sum() for part in (y, *finals))
    loss.backward()
    found = {"y": y.detach().numpy(), "x": x.grad.numpy()}
    found |= {f"carry {i}": part.detach().numpy() for i, part in enumerate(finals)}
    for suffix in suffixes:
        found[f"kernel{suffix}"] = getattr(module, f"weight_ih{suffix}").grad.numpy().T
        found[f"recurrent_kernel{suffix}"] = getattr(module, f"weight_hh{suffix}").grad.numpy().T
        if case.bias:
            found[f"bias{suffix}"] = getattr(module, f"bias_ih{suffix}").grad.numpy()
            if case.kind == "GRU":
                found[f"recurrent_bias{suffix}"] = getattr(module, f"bias_hh{suffix}").grad.numpy()[2 * FEATURES :]
    return found


def in_funcgrad(case: Case, fg: Any) -> dict[str, np.ndarray]:
    """Return the same of funcgrad, under the same names."""
    params, x, carry = inputs(case)

    def loss(params: Any, x: Any) -> Any:
        y, final = case.layer.apply(params, x, lengths=case.lengths, carry=carry, return_carry=True)
        parts = [c for own in final for c in (own.values() if case.bidirectional else [own])]
        parts = list(zip(*parts, strict=True)) if case.kind == "LSTM" else [parts]
        finals = [fg.numpy.stack(part) for part in parts]
        return sum((part * weights(part)).sum() for part in (y, *finals)), (y, finals)

    (_, (y, finals)), (slopes, slope) = fg.jit(fg.value_and_grad(loss, (0, 1), has_aux=True))(params, x)
    found = {"y": y, "x": slope} | {f"carry {i}": part for i, part in enumerate(finals)}
    for i, own in enumerate(slopes):
        for side, cell in own.items() if case.bidirectional else [("forward", own)]:
            suffix = f"_l{i}" + ("_reverse" if side == "backward" else "")
            found |= {f"{name}{suffix}": value for name, value in cell.items()}
    return found
