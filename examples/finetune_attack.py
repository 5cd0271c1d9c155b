#!/usr/bin/env python3
"""Trains what a protected ONNX model leaves in clear, as an attacker with some labels would.

The attacker knows each encrypted position and has some samples with labels. With --base they also have the public model
that the private one was made of, and put its weights in the gaps; a last layer that is encrypted whole begins with
zeros. Without it they fill gaps by zeros, or by random numbers with mean and deviation of what is visible in the
channel; a tensor without a visible element is initialised afresh. Then they train:

    head         the last layer alone, as logistic regression
    encrypted    the encrypted elements alone
    everything   all weights
    head first   all weights, beginning with the last layer that `head` found

Floors are the same without the protected model: the public model and the labels (black box), and the architecture and
the labels (from nothing). A fifth of the attacker's labels is kept from training: what does best on it is picked, of all
fills, learning rates, numbers of steps and attacks. Accuracy, and agreement with the original, are of other samples.

    onnxseal plan victim.onnx --preset balanced --json > balanced.json
    python finetune_attack.py victim.onnx --base public.onnx --plan balanced=balanced.json --data data.npz --labels 50 200

Needs torch, onnx, numpy; onnx2torch without --module; compares with ONNX Runtime where that is installed.
data.npz has an array of inputs (the first axis counts samples; bytes are divided by 255) and `labels` (class numbers).
The script handles FLOAT weights in initializers of the main graph. It keeps running statistics of BatchNormalization.

A model that onnx2torch does not convert comes as `--module FILE.py:FUNCTION`. FUNCTION takes an onnx.ModelProto and
returns a torch.nn.Module whose parameters hold the model's weights, each element at one place: the script calls it with
other numbers in the initializers to learn which parameter is which. finetune_digits.py is an example.
"""

import argparse
import copy
import importlib.util
import json
import statistics
import sys

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

# What an element is; of the last layer, twice that.
CLEAR, ENCRYPTED, LAST = 1.0, 2.0, 4.0
RUNNING = ("running_mean", "running_var")
HEAD_STEPS = 60
ATTACKS = ["head", "encrypted", "everything", "head first"]


def main():
    options = arguments()
    torch.set_num_threads(1)
    model = onnx.load(options.model)
    build = builder(options.module)
    inputs, labels = samples(options.data)
    if len(inputs) != len(labels) or len(inputs) <= max(options.labels):
        sys.exit(f"{len(inputs)} inputs, {len(labels)} labels: too few for {max(options.labels)} labels and a test")
    check(options.model, model, build, inputs, labels)
    with torch.no_grad():
        original = first(build(model).eval()(inputs)).argmax(1)

    plans = {}
    for named in options.plan:
        name, _, path = named.rpartition("=")
        with open(path) as file:
            plans[name or path] = json.load(file)
    planned = {tensor["name"] for plan in plans.values() for op in plan["operators"] for tensor in op["tensors"]}
    weights = weights_of(model, planned)
    whole = {name: np.ones(array.shape, bool) for name, array in weights.items()}
    public, rows = None, [("from nothing", None, whole, ["nothing"])]
    if options.base:
        public = matched(weights, weights_of(onnx.load(options.base), planned))
        rows.append(("black box", None, whole, ["base"]))
    for name, plan in plans.items():
        masks = {**{weight: ~mask for weight, mask in whole.items()}, **masks_of(plan, weights)}
        rows.append((name, plan["weights"]["share"], masks, ["base"] if public else ["zero", "gaussian"]))

    # Plans that encrypt the same need one run.
    done, found = {}, {}
    for name, share, masks, fills in rows:
        key = b"".join([fills[0].encode(), *(masks[weight].tobytes() for weight in sorted(masks))])
        for n_labels in options.labels:
            if (key, n_labels) not in done:
                done[key, n_labels] = [
                    attack(model, build, masks, weights, public, fills, split, options)
                    for split in splits(inputs, labels, original, n_labels, options.seeds)
                ]
            found[name, n_labels] = done[key, n_labels]
            said = ", ".join(f"{what} {cell([a[what] for a in found[name, n_labels]])}" for what in options.attacks)
            print(f"# {name}, {n_labels} labels: {said}", file=sys.stderr)
    tables([(name, share) for name, share, _, _ in rows], found, options)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="the plain model: what is not encrypted comes from it")
    parser.add_argument("--base", metavar="PUBLIC.onnx", help="the public model that it was made of")
    parser.add_argument(
        "--plan", action="append", required=True, metavar="NAME=FILE", help="what `onnxseal plan --json` prints"
    )
    parser.add_argument("--data", required=True, help=".npz with inputs and labels that the model was not trained on")
    parser.add_argument(
        "--labels", type=int, nargs="+", default=[100], help="samples that the attacker has; the rest is the test"
    )
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=ATTACKS, metavar="ATTACK", help="all, or some")
    parser.add_argument("--module", metavar="FILE.py:FUNCTION", help="makes the module, in place of onnx2torch")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2], help="learning rates of Adam")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=3, help="each has another split and other random numbers")
    return parser.parse_args()


def samples(path):
    with np.load(path) as data:
        (inputs,) = (data[name] for name in data.files if name != "labels")
        if inputs.dtype == np.uint8:
            inputs = inputs.astype(np.float32) / 255
        return torch.from_numpy(inputs), torch.from_numpy(data["labels"].astype(np.int64))


def builder(module):
    """The function from a ModelProto to a module."""
    if module is None:
        from onnx2torch import convert

        return convert
    path, _, function = module.rpartition(":")
    spec = importlib.util.spec_from_file_location("attacked", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return getattr(loaded, function)


def check(path, model, build, inputs, labels):
    """Prints the original's accuracy; a module that answers otherwise than ONNX Runtime is an error."""
    module = build(model).eval()
    with torch.no_grad():
        scores = first(module(inputs))
    print(f"original: {float((scores.argmax(1) == labels).float().mean()):.1%} of {len(labels)} samples")
    try:
        import onnxruntime
    except ImportError:
        return
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    classes = [output if output.ndim == 1 else output.argmax(1) for output in theirs if output.ndim in (1, 2)]
    same = max(float((scores.argmax(1).numpy() == output).mean()) for output in classes)
    if same < 0.99:
        sys.exit(f"the module answers as ONNX Runtime does for {same:.1%} of the samples only")


def first(outputs):
    return outputs if torch.is_tensor(outputs) else outputs[0]


# --- what is encrypted ----------------------------------------------------------------------------


def weights_of(model, planned=()):
    """The FLOAT initializers of the main graph, by name, in the order of the nodes; single numbers if a plan has them."""
    arrays = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and (np.prod(tensor.dims) > 1 or tensor.name in planned)
    }
    read = [name for node in model.graph.node for name in node.input if name in arrays]
    return {name: arrays[name] for name in dict.fromkeys(read)}


def matched(weights, public):
    """The public model's arrays by the names of the private one's: the same name, or else the next of the same shape."""
    left, found = dict(public), {}
    for by_name in (True, False):
        for name, array in weights.items():
            names = [other for other in left if (other == name or not by_name) and left[other].shape == array.shape]
            if name not in found and names:
                found[name] = left.pop(names[0])
    return found


def masks_of(plan, weights):
    """The encrypted elements of each tensor that the plan names, as boolean arrays."""
    masks = {}
    for operator in plan["operators"]:
        for tensor in operator["tensors"]:
            name = tensor["name"]
            if name not in weights:
                sys.exit(f"{name} at {tensor['at']}: not a FLOAT initializer of the main graph")
            mask = np.zeros(int(np.prod(tensor["dims"])), bool)
            at = 0
            for i, run in enumerate(tensor["targets"]):
                begin, at = at, at + run
                if i % 2 == 1:
                    mask[begin * tensor["unit"] : at * tensor["unit"]] = True
            if mask.sum() * 4 != tensor["encrypted_bytes"]:
                sys.exit(f"{name}: the plan encrypts other than {mask.sum()} elements")
            masks[name] = mask.reshape(tensor["dims"])
    return masks


def last_layer(model, weights):
    """The last matrix, and what comes after it."""
    nodes = [[name for name in node.input if name in weights] for node in model.graph.node]
    at = max(i for i, names in enumerate(nodes) if any(weights[name].ndim > 1 for name in names))
    return {name for names in nodes[at:] for name in names}


def with_tensors(model, arrays):
    """A copy of the model with other numbers in some initializers."""
    changed = copy.deepcopy(model)
    for tensor in changed.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(arrays[tensor.name], np.float32), tensor.name))
    return changed


def filled(model, masks, weights, public, last, fill, rng):
    """The weights with encrypted elements replaced; with `nothing`, all of them made afresh."""
    arrays = {}
    for name, array in weights.items():
        array, mask = array.copy(), masks[name]
        if not mask.any():
            pass
        elif fill == "base" and mask.all() and name in last:
            array[mask] = 0
        elif fill == "base" and name in public:
            array[mask] = public[name][mask]
        elif fill == "nothing" or mask.all():
            array = fresh(model, name, array, rng)
        elif fill == "zero":
            array[mask] = 0
        else:
            rows, hidden = array.reshape(len(array), -1), mask.reshape(len(array), -1)
            visible = array[~mask]
            for row, gone in zip(rows, hidden):
                left = row[~gone] if (~gone).sum() >= 2 else visible
                row[gone] = rng.normal(left.mean(), left.std(), gone.sum())
        arrays[name] = array
    return arrays


def fresh(model, name, array, rng):
    """A weight as a model has it that is not trained."""
    node = next((node for node in model.graph.node if name in node.input), None)
    kind, at = (node.op_type, list(node.input).index(name)) if node is not None else ("", 0)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} if node is not None else {}
    normalises = kind.endswith("Normalization") or kind == "LayerNorm"
    if normalises:
        return np.full_like(array, 1.0 if at in (1, 4) else 0.0)
    if kind in ("LSTM", "GRU", "RNN"):
        bound = attributes["hidden_size"] ** -0.5
        return rng.uniform(-bound, bound, array.shape)
    if kind == "Gather":
        return rng.normal(0, 0.02, array.shape)
    if array.ndim < 2 or max(array.shape) == array.size:
        return np.zeros_like(array)
    rows_are_inputs = kind == "MatMul" or (kind == "Gemm" and not attributes.get("transB"))
    fan_in = array.shape[-2] if rows_are_inputs else int(np.prod(array.shape[1:]))
    return rng.normal(0, (2 / fan_in) ** 0.5, array.shape)


# --- training -------------------------------------------------------------------------------------


def splits(inputs, labels, original, n_labels, seeds):
    """For each seed: what the attacker trains with, what they pick by, and the test; (inputs, labels, original's) each."""
    n_picked_by = max(n_labels // 5, 1)
    for seed in range(seeds):
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
        parts = order[n_picked_by:n_labels], order[:n_picked_by], order[n_labels:]
        yield seed, *((inputs[part], labels[part], original[part]) for part in parts)


def attack(model, build, masks, weights, public, fills, split, options):
    """The pick of each attack: (how good it is by the attacker's labels, accuracy, agreement)."""
    seed = split[0]
    last = last_layer(model, weights)
    kinds = {
        name: np.where(masks[name], ENCRYPTED, CLEAR) * (LAST if name in last else 1) for name in weights
    }
    others = {
        tensor.name: np.zeros(tuple(tensor.dims), np.float32)
        for tensor in model.graph.initializer
        if tensor.name not in weights and tensor.data_type == TensorProto.FLOAT
    }
    kinds = tensors_of(build(with_tensors(model, {**others, **kinds})))
    chosen = {
        "head": {name: kind >= LAST for name, kind in kinds.items()},
        "encrypted": {name: (kind == ENCRYPTED) | (kind == LAST * ENCRYPTED) for name, kind in kinds.items()},
        "everything": {name: kind > 0 for name, kind in kinds.items()},
    }
    chosen["head first"] = chosen["everything"]
    runs = {}
    for number, fill in enumerate(fills):
        rng = np.random.default_rng([seed, number])
        arrays = filled(model, masks, weights, public, last, fill, rng)
        module = build(with_tensors(model, arrays)).eval()
        start = tensors_of(module)
        for what in options.attacks:
            begin, gates = start, chosen[what]
            if what == "head first":
                begin = {**start, **train(module, start, chosen["head"], split, None, options)[3]}
            for rate in [None] if what == "head" else options.rates:
                runs.setdefault(what, []).append(train(module, begin, gates, split, rate, options))
    return {what: max(of, key=lambda run: run[0])[:3] for what, of in runs.items()}


def tensors_of(module):
    """Parameters and buffers of floating point: onnx2torch keeps some weights as buffers."""
    named = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: tensor.detach() for name, tensor in named.items() if tensor.is_floating_point()}


def train(module, start, gates, split, rate, options):
    """What does best on the labels kept from training: (how well, accuracy, agreement, tensors).

    A last layer alone is a convex problem, which L-BFGS solves; there the rate is None."""
    seed, (x, y, _), picked_by, test = split
    torch.manual_seed(seed)
    trained = [name for name, gate in gates.items() if gate.any() and not name.endswith(RUNNING)]
    leaves = {name: start[name].clone().requires_grad_() for name in trained}

    def scores(inputs, tensors):
        return first(torch.func.functional_call(module, {**start, **tensors}, (inputs,)))

    def look():
        with torch.no_grad():
            answer = scores(picked_by[0], leaves)
            right = float((answer.argmax(1) == picked_by[1]).float().mean())
            how_well = right, -float(torch.nn.functional.cross_entropy(answer, picked_by[1]))
            return how_well, {name: leaf.detach().clone() for name, leaf in leaves.items()}

    def slope(inputs, labels):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(scores(inputs, leaves), labels)
        loss.backward()
        for name, leaf in leaves.items():
            # An element that never had a gradient stays where it is.
            leaf.grad.mul_(gates[name])
        return loss

    found = look()
    if rate is None:
        optimizer = torch.optim.LBFGS(leaves.values(), max_iter=1, line_search_fn="strong_wolfe") if leaves else None
        for _ in range(HEAD_STEPS if leaves else 0):
            optimizer.step(lambda: slope(x, y))
            found = max(found, look(), key=lambda pair: pair[0])
    else:
        optimizer = torch.optim.Adam(leaves.values(), lr=rate, fused=True) if leaves else None
        order = torch.empty(0, dtype=torch.int64)
        for step in range(1, options.steps + 1 if leaves else 1):
            if len(order) == 0:
                order = torch.randperm(len(x))
            batch, order = order[: options.batch], order[options.batch :]
            slope(x[batch], y[batch])
            optimizer.step()
            if step % 10 == 0:
                found = max(found, look(), key=lambda pair: pair[0])
    how_well, tensors = found
    with torch.no_grad():
        classes = scores(test[0], tensors).argmax(1)
    shares = (float((classes == expected).float().mean()) for expected in test[1:])
    return how_well, *shares, tensors


# --- tables ---------------------------------------------------------------------------------------


def cell(runs):
    """Means over seeds: accuracy / agreement, in percent."""
    accuracy, agreement = (100 * statistics.mean(run[i] for run in runs) for i in (1, 2))
    return f"{accuracy:.1f} / {agreement:.1f}"


def tables(rows, found, options):
    """Each attack, and the one that the attacker picks."""

    def pick(of_seeds):
        return cell([max(attacks.values(), key=lambda run: run[0]) for attacks in of_seeds])

    def line(*cells):
        print(f"| {' | '.join(cells)} |")

    def shown(share):
        return "" if share is None else f"{share:.1%}"

    for n_labels in options.labels:
        print(f"\n{n_labels} labels\n")
        line("", "encrypted", *options.attacks, "the pick")
        line(*["---"] * (len(options.attacks) + 3))
        for name, share in rows:
            of_seeds = found[name, n_labels]
            line(name, shown(share), *(cell([a[what] for a in of_seeds]) for what in options.attacks), pick(of_seeds))
    if len(options.labels) == 1:
        return
    print("\nthe pick, by labels\n")
    line("", "encrypted", *map(str, options.labels))
    line(*["---"] * (len(options.labels) + 2))
    for name, share in rows:
        line(name, shown(share), *(pick(found[name, n]) for n in options.labels))


if __name__ == "__main__":
    main()
