#!/usr/bin/env python3
"""Fine-tunes what a protected ONNX model leaves in clear, as an attacker with some labels would.

The attacker knows each encrypted position and has some samples with labels. Encrypted elements are filled, by zeros or
by random numbers with mean and deviation of what is visible in their channel; a tensor without a visible element is
initialised afresh. Then training goes on, of the encrypted elements alone or of all. It stands against training of the
same architecture from nothing, with the same labels, learning rates, epochs and number of runs. For each the best epoch
counts, measured on samples that the attacker does not have: no attacker can stop at a better one.

    onnxseal plan model.onnx --preset balanced --json > balanced.json
    python finetune_attack.py model.onnx --plan balanced=balanced.json --data data.npz --labels 100

Needs torch, onnx, numpy; onnx2torch without --module; compares with ONNX Runtime where that is installed.
data.npz has the arrays `inputs` (as the model takes them, the first axis counts samples) and `labels` (class numbers).
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

CLEAR, ENCRYPTED = 1.0, 2.0
RUNNING = ("running_mean", "running_var")


def main():
    options = arguments()
    torch.set_num_threads(1)
    model = onnx.load(options.model)
    build = builder(options.module)
    with np.load(options.data) as data:
        inputs, labels = torch.from_numpy(data["inputs"]), torch.from_numpy(data["labels"].astype(np.int64))
    if len(inputs) != len(labels) or len(inputs) <= options.labels:
        sys.exit(f"{len(inputs)} inputs, {len(labels)} labels: too few for {options.labels} labels and a test")
    check(options.model, model, build, inputs, labels)

    # Plans that encrypt the same need one run.
    done, nothing, rows = {}, {}, []
    for named in options.plan:
        name, _, path = named.rpartition("=")
        with open(path) as file:
            plan = json.load(file)
        masks, weights = masks_of(plan, model)
        key = b"".join(masks[weight].tobytes() for weight in sorted(weights))
        for seed in range(options.seeds):
            split = splits(inputs, labels, options.labels, seed)
            if seed not in nothing:
                nothing[seed] = best(model, build, masks, weights, ["nothing"] * 2, "everything", split, seed, options)
            for what in ("encrypted", "everything"):
                if (key, what, seed) not in done:
                    done[key, what, seed] = best(
                        model, build, masks, weights, ["zero", "gaussian"], what, split, seed, options
                    )
        share = plan["weights"]["share"]
        results = [[done[key, what, seed] for seed in nothing] for what in ("encrypted", "everything")]
        rows.append((name or path, share, *results))
        print(f"# {name or path} is done", file=sys.stderr)
    table(rows, list(nothing.values()), options)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="the plain model: what is not encrypted comes from it")
    parser.add_argument(
        "--plan", action="append", required=True, metavar="NAME=FILE", help="what `onnxseal plan --json` prints"
    )
    parser.add_argument("--data", required=True, help=".npz with inputs and labels that the model was not trained on")
    parser.add_argument("--labels", type=int, default=100, help="samples that the attacker has; the rest is the test")
    parser.add_argument("--module", metavar="FILE.py:FUNCTION", help="makes the module, in place of onnx2torch")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2], help="learning rates of Adam")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=3, help="each has another split and other random numbers")
    return parser.parse_args()


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
        scores = answers(module, inputs)
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


def answers(module, inputs):
    scores = module(inputs)
    return scores if torch.is_tensor(scores) else scores[0]


# --- what is encrypted ----------------------------------------------------------------------------


def masks_of(plan, model):
    """(encrypted elements of each weight tensor as a boolean array, facts of all weight tensors)."""
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    masks, weights = {}, {}
    for operator in plan["operators"]:
        for tensor in operator["tensors"]:
            name = tensor["name"]
            if not tensor["at"].startswith("graph.initializer["):
                sys.exit(f"{tensor['at']}: not an initializer of the main graph")
            if initializers[name].data_type != TensorProto.FLOAT:
                sys.exit(f"{name}: not FLOAT")
            mask = np.zeros(int(np.prod(tensor["dims"])), bool)
            at = 0
            for i, run in enumerate(tensor["targets"]):
                begin, at = at, at + run
                if i % 2 == 1:
                    mask[begin * tensor["unit"] : at * tensor["unit"]] = True
            if mask.sum() * 4 != tensor["encrypted_bytes"]:
                sys.exit(f"{name}: the plan encrypts other than {mask.sum()} elements")
            masks[name] = mask.reshape(tensor["dims"])
            weights[name] = operator["op_type"]
    # What is left in clear for being small is trained with the others.
    for tensor in plan.get("clear", []):
        found = initializers.get(tensor["name"])
        if found is not None and found.data_type == TensorProto.FLOAT and tensor["name"] not in masks:
            operators = tensor.get("operators") or [{}]
            masks[tensor["name"]] = np.zeros(tuple(found.dims), bool)
            weights[tensor["name"]] = operators[0].get("op_type", "")
    return masks, weights


def with_tensors(model, arrays):
    """A copy of the model with other numbers in some initializers."""
    changed = copy.deepcopy(model)
    for tensor in changed.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(arrays[tensor.name], np.float32), tensor.name))
    return changed


def filled(model, masks, weights, fill, rng):
    """The weights with encrypted elements replaced; with `nothing`, all of them made afresh."""
    arrays = {}
    for tensor in model.graph.initializer:
        name = tensor.name
        if name not in weights:
            continue
        array, mask = numpy_helper.to_array(tensor).copy(), masks[name]
        if fill == "nothing" or mask.all():
            array = fresh(model, name, array, rng)
        elif mask.any() and fill == "zero":
            array[mask] = 0
        elif mask.any():
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


def splits(inputs, labels, n_labels, seed):
    """(attacker's inputs, labels, test inputs, labels)."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    mine, rest = order[:n_labels], order[n_labels:]
    return inputs[mine], labels[mine], inputs[rest], labels[rest]


def best(model, build, masks, weights, fills, what, split, seed, options):
    """(accuracy, how) of the best run."""
    marks = {name: np.where(masks[name], ENCRYPTED, CLEAR) for name in weights}
    others = {
        tensor.name: np.zeros(tuple(tensor.dims), np.float32)
        for tensor in model.graph.initializer
        if tensor.name not in weights and tensor.data_type == TensorProto.FLOAT
    }
    marks = tensors_of(build(with_tensors(model, {**others, **marks})))
    runs = []
    for number, fill in enumerate(fills):
        rng = np.random.default_rng([seed, number])
        module = build(with_tensors(model, filled(model, masks, weights, fill, rng))).eval()
        for rate in options.rates:
            torch.manual_seed(seed)
            accuracy, epoch = train(module, marks, what, split, rate, options)
            runs.append((accuracy, f"{fill}, rate {rate:g}, epoch {epoch}"))
    return max(runs, key=lambda run: run[0])


def tensors_of(module):
    """Parameters and buffers of floating point: onnx2torch keeps some weights as buffers."""
    named = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: tensor.detach() for name, tensor in named.items() if tensor.is_floating_point()}


def train(module, marks, what, split, rate, options):
    """(best accuracy over epochs, that epoch); epoch 0 is before training."""
    x, y, test_x, test_y = split
    start = tensors_of(module)
    least = ENCRYPTED if what == "encrypted" else CLEAR
    leaves, gates = {}, {}
    for name, tensor in start.items():
        gate = (marks[name] >= least).float()
        if gate.any() and not name.endswith(RUNNING):
            leaves[name], gates[name] = tensor.clone().requires_grad_(), gate

    def scores(inputs):
        # A clear element is what it was, whatever the optimiser does.
        moved = {name: torch.where(gates[name] > 0, leaf, start[name]) for name, leaf in leaves.items()}
        answer = torch.func.functional_call(module, moved, (inputs,))
        return answer if torch.is_tensor(answer) else answer[0]

    def accuracy():
        with torch.no_grad():
            return float((scores(test_x).argmax(1) == test_y).float().mean())

    found = (accuracy(), 0)
    if not leaves:
        return found
    optimizer = torch.optim.Adam(leaves.values(), lr=rate)
    for epoch in range(1, options.epochs + 1):
        order = torch.randperm(len(x))
        for begin in range(0, len(x), options.batch):
            batch = order[begin : begin + options.batch]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(scores(x[batch]), y[batch]).backward()
            optimizer.step()
        found = max(found, (accuracy(), epoch), key=lambda pair: pair[0])
    return found


# --- the table ------------------------------------------------------------------------------------


def table(rows, nothing, options):
    """Means over seeds, and the best run of all with how it came about."""

    def cell(runs):
        accuracy, how = max(runs, key=lambda run: run[0])
        return f"{statistics.mean(run[0] for run in runs):.1%} (most {accuracy:.1%}: {how})"

    floor = statistics.mean(run[0] for run in nothing)
    print(f"from nothing, {options.labels} labels: {cell(nothing)}")
    head = ["plan", "encrypted", "fine-tuning of what is encrypted", "of everything", "the better, above from nothing"]
    print(f"| {' | '.join(head)} |")
    print("|---|---|---|---|---|")
    for name, share, *results in rows:
        above = max(statistics.mean(run[0] for run in runs) for runs in results) - floor
        print(f"| {name} | {share:.1%} | {cell(results[0])} | {cell(results[1])} | {100 * above:+.1f} points |")


if __name__ == "__main__":
    main()
