"""A model of two tiers, for every test that opens one."""

from catalog import MODELS

POLICY = """
preset = "full"
[[tier]]
name = "trial"
share = 0.5
[[tier]]
name = "full"
"""


class Tiers:
    """The model of the digits with the tiers `trial` and `full`."""

    original = MODELS / "digits_cnn.onnx"

    def __init__(self, tool, folder):
        self.policy = folder / "policy.toml"
        self.policy.write_text(POLICY)
        # Who has it opens `trial` alone.
        self.trial = folder / "trial.txt"
        self.recipient = tool("keygen", "-o", self.trial).stdout.strip()
        self.protected = folder / "protected.onnx"
        recipients = ["-r", f"trial={self.recipient}", "-r", f"full={tool.recipient}"]
        tool("protect", self.original, "-o", self.protected, "--policy", self.policy, *recipients, "-q")
        # What the tool writes for `trial`.
        self.unprotected = folder / "unprotected.onnx"
        tool("unprotect", self.protected, "-i", self.trial, "--tier", "trial", "-o", self.unprotected)
