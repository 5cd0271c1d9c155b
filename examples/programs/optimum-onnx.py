import torch
from optimum.onnxruntime import ORTModelForSequenceClassification

model = ORTModelForSequenceClassification.from_pretrained("models/bert", use_io_binding=True)
tokens = torch.arange(16).reshape(2, 8)
inputs = {"input_ids": tokens, "attention_mask": tokens * 0 + 1, "token_type_ids": tokens * 0}
print(model(**inputs).logits.tolist())
