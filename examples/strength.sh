#!/usr/bin/env bash
# The figures of fine-tuning in docs/STRENGTH.md, with a public base and without. Run it in the root of the repository.
set -eu

python -m venv /tmp/finetune && /tmp/finetune/bin/pip install torch onnx onnx2torch onnxruntime numpy
export PATH=/tmp/finetune/bin:$PATH OMP_NUM_THREADS=1

# With a public base
onnxseal_pair() {  # name, folder with base.onnx, victim.onnx, samples.npz
    for p in balanced strong; do onnxseal plan $2/victim.onnx --preset $p --json >/tmp/$1.plan.$p.json; done
    attack=(python examples/finetune_attack.py $2/victim.onnx --base $2/base.onnx --data $2/samples.npz --steps 200 --rates 1e-3 1e-2)
    for name in balanced strong; do attack+=(--plan $name=/tmp/$1.plan.$name.json); done
    "${attack[@]}" --labels 25 50 100 200 --attacks head
    "${attack[@]}" --labels 100 --attacks encrypted everything "head first"
}
onnxseal_pair convolutional fixtures/public
python fixtures/make_public.py vit /tmp/vit && onnxseal_pair vit /tmp/vit        # needs scikit-learn too

# Without one
attack() {  # fixture, form of its inputs, function of its module
    model=fixtures/models/$1.onnx plans=()
    for preset in balanced strong full; do
        onnxseal plan $model --preset $preset --json >/tmp/$1.$preset.json
        plans+=(--plan $preset=/tmp/$1.$preset.json)
    done
    python examples/finetune_digits.py $2 /tmp/$2.npz
    python examples/finetune_attack.py $model "${plans[@]}" --data /tmp/$2.npz --labels 100 --steps 100 \
        --rates 3e-3 1e-2 --attacks encrypted everything ${3:+--module examples/finetune_digits.py:$3}
}
attack digits_cnn nchw              # through onnx2torch
attack digits_sklearn_mlp flat sklearn_mlp
attack digits_lstm rows lstm
attack digits_embedding tokens embedding
