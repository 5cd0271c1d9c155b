# %% [markdown]
# # From a torch module to predictions of its protected model
#
# Needs `torch`, `numpy`, `onnxruntime` and `onnxseal`; with torch 2.9 or newer `onnxscript` too. Runs as a script, and cell by
# cell in editors that know `# %%`.

# %%
import inspect
import tempfile
from pathlib import Path

import numpy as np
import onnxseal
import torch

torch.manual_seed(7)
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A model
# Small, and trained a little: to tell on which side of a circle a point lies.

# %%
module = torch.nn.Sequential(
    torch.nn.Linear(2, 64),
    torch.nn.ReLU(),
    torch.nn.Linear(64, 256),
    torch.nn.ReLU(),
    torch.nn.Linear(256, 2),
)
points = torch.rand(2048, 2) * 2 - 1
labels = (points.norm(dim=1) < 0.8).long()
optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
for _ in range(100):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(module(points), labels)
    loss.backward()
    optimizer.step()
module.eval()

# %% [markdown]
# ## Export
# The newer exporter gives a program, which `protect` takes as it is: nothing unprotected is written. The older one writes a
# file, or into memory.

# %%
example = points[:4]
parameters = inspect.signature(torch.onnx.export).parameters
if "dynamo" in parameters and torch.__version__ >= (2, 5):
    batch = torch.export.Dim("batch")
    model = torch.onnx.export(module, (example,), dynamo=True, dynamic_shapes=({0: batch},))
else:
    import io

    file = io.BytesIO()
    torch.onnx.export(
        module, (example,), file, input_names=["points"], output_names=["scores"], dynamic_axes={"points": {0: "batch"}}
    )
    model = file.getvalue()

# %% [markdown]
# ## Protect
# An identity is the secret key; its recipient is public. What is protected to the recipient, the identity opens.

# %%
identity = onnxseal.generate_identity()
sealed = folder / "sealed.onnx"
report = onnxseal.protect(model, sealed, recipients=identity.recipient, claims={"customer": "acme"})
for row in report["types"]:
    print(f"{row['op_type']}: {row['share']:.0%} of {row['bytes']} bytes encrypted")

# %% [markdown]
# ## Predict
# An ordinary session of ONNX Runtime, on the model that is opened in memory.

# %%
session = onnxseal.InferenceSession(
    sealed, identity=identity, require_claims=["customer=acme"], providers=["CPUExecutionProvider"]
)
name = session.get_inputs()[0].name
(scores,) = session.run(None, {name: points.numpy()})
with torch.no_grad():
    expected = module(points).numpy()
np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)
accuracy = float((scores.argmax(axis=1) == labels.numpy()).mean())
print(f"same as torch {torch.__version__}; accuracy {accuracy:.1%}")
assert accuracy > 0.9

# %% [markdown]
# ## Without the key
# The file is still an ONNX model, and computes something else.

# %%
import onnxruntime  # noqa: E402

blind = onnxruntime.InferenceSession(sealed, providers=["CPUExecutionProvider"])
(scores,) = blind.run(None, {name: points.numpy()})
blind_accuracy = float((scores.argmax(axis=1) == labels.numpy()).mean())
print(f"without the key: accuracy {blind_accuracy:.1%}")
assert not np.allclose(scores, expected, atol=1e-2)
